module rillevents.test/rill

go 1.22

require (
	github.com/rilldata/rill v0.47.6
	go.opentelemetry.io/otel v1.27.0
	go.uber.org/zap v1.27.0
)
