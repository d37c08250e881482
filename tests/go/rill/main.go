// Records events with Rill's own client, as a local runtime of theirs does, and prints the lines that it is about to send.
//
//	go run . URL USER PASSWORD
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/rilldata/rill/runtime/pkg/activity"
	"go.opentelemetry.io/otel/attribute"
	"go.uber.org/zap"
)

// printing hands events on to another sink, and prints each as the line that it becomes.
type printing struct{ next activity.Sink }

func (p printing) Emit(event activity.Event) error {
	line, err := event.MarshalJSON()
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	return p.next.Emit(event)
}

func (p printing) Close() { p.next.Close() }

func main() {
	logger := zap.Must(zap.NewProduction())
	sink := activity.NewIntakeSink(logger, activity.IntakeSinkOptions{
		IntakeURL:      os.Args[1],
		IntakeUser:     os.Args[2],
		IntakePassword: os.Args[3],
		BufferSize:     10,
		SinkInterval:   time.Second,
	})
	client := activity.NewClient(printing{sink}, logger).
		WithServiceName("rill-local").
		WithServiceVersion("0.47.6", "abc").
		WithInstallID("6f1c8a5e-0000-4000-8000-000000000000").
		WithUserID("").
		WithIsDev()
	ctx := context.Background()
	for i := 0; i < 25; i++ {
		client.Record(ctx, activity.EventTypeBehavioral, activity.BehavioralEventLoginStart, attribute.Int("n", i), attribute.String("text", "ä\n\"<&>"))
		client.RecordMetric(ctx, "duckdb_estimated_size", float64(i)*1.5, attribute.StringSlice("tags", []string{"a", "b"}))
	}
	client.RecordBehavioralLegacy("install-success")
	if err := client.RecordRaw(map[string]any{
		"event_id": "raw-1", "event_time": "2026-11-23T10:00:00.123456789Z", "event_type": "behavioral", "event_name": "app-start", "nested": map[string]any{"a": []any{1, nil, true}},
	}); err != nil {
		panic(err)
	}
	if err := client.Close(ctx); err != nil {
		panic(err)
	}
}
