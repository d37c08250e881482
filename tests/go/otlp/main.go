// Sends events as Go programs with OpenTelemetry do: log records with an event name, through the SDK's batch processor and its
// exporter over HTTP. Every tenth record has no name. Prints the errors that the program is told of.
//
//	go run . URL COUNT
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

const start = 1795428000123456789

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func record(number int) log.Record {
	var made log.Record
	if number%10 != 9 {
		made.SetEventName("go-event")
	}
	made.SetTimestamp(time.Unix(0, start+int64(number)))
	made.SetSeverity(log.SeverityWarn1)
	made.SetBody(attribute.StringValue("slow"))
	made.AddAttributes(
		attribute.Int("n", number),
		attribute.Float64("fraction", 0.5),
		attribute.Bool("ok", true),
		attribute.ByteSlice("bytes", []byte{0, 255}),
		attribute.Slice("list", attribute.StringValue("ä"), attribute.Int64Value(-1<<63)),
		attribute.Map("map", attribute.String("a", "b"), attribute.Map("empty")),
	)
	return made
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	must(err)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { fmt.Println(err) }))
	background := context.Background()
	exporter, err := otlploghttp.New(
		background,
		otlploghttp.WithEndpointURL(os.Args[1]),
		otlploghttp.WithCompression(otlploghttp.GzipCompression),
	)
	must(err)
	described := resource.NewSchemaless(
		attribute.String("service.name", "shop"),
		attribute.String("service.version", "1.2"),
		attribute.String("host.name", "private"),
	)
	provider := sdklog.NewLoggerProvider(
		sdklog.WithResource(described),
		sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)),
	)
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}})
	within := trace.ContextWithSpanContext(background, span)
	logger := provider.Logger("rillevents.test/otlp")
	for number := 0; number < count; number++ {
		logger.Emit(within, record(number))
	}
	if err := provider.Shutdown(background); err != nil {
		fmt.Println(err)
	}
}
