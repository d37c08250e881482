#!/usr/bin/env bash
# Builds the programs that test_real.py sends to, from their public Go modules.
#
#     tests/real/build.sh FOLDER
#     RILLEVENTS_REAL=FOLDER python -m pytest tests/real -n0 -m slow -s
#
# FOLDER/collector is an OpenTelemetry Collector of few parts: the receiver for OTLP, the exporters that write to a file and to
# its log, and the limit on memory. The Collector's own modules are v0.165.0, the stable ones v1.71.0, the file exporter v0.165.1.
# FOLDER/benthos is Redpanda's Benthos v4.60.0 with its components that need no other system: HTTP and files among them.
# FOLDER/victoria-logs is VictoriaLogs v1.52.2.
#
# Needs Go 1.26 or newer, and whichever module proxy Go is set to. The sources are in a temporary folder, which is removed at the
# end; the modules stay in Go's own cache. The first build takes minutes.
set -euo pipefail

collector=v0.165.0
stable=v1.71.0
contrib=v0.165.1
benthos=v4.60.0
victorialogs=v1.52.2

if (($# != 1)); then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# No workspace of the user's and none of their flags, and no C library: the projects' own releases have none either.
export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0

# Builds the program in the folder $1 of the modules that follow, and moves it to where it belongs.
build() {
  local name=$1
  shift
  cd "$work/$name"
  go mod init "real/$name"
  go get "$@"
  go build -trimpath -ldflags="-s -w" -o "$folder/$name" .
}

mkdir "$work/collector" "$work/benthos"
cat >"$work/collector/main.go" <<END
package main

import (
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/debugexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/memorylimiterprocessor"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func factories() (found otelcol.Factories, err error) {
	found.Telemetry = otelconftelemetry.NewFactory()
	if found.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return
	}
	if found.Processors, err = otelcol.MakeFactoryMap[processor.Factory](memorylimiterprocessor.NewFactory()); err != nil {
		return
	}
	found.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](debugexporter.NewFactory(), fileexporter.NewFactory())
	return
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector", Version: "${collector#v}"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{
					envprovider.NewFactory(), fileprovider.NewFactory(), yamlprovider.NewFactory(),
				},
			},
		},
	})
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}
END
cat >"$work/benthos/main.go" <<END
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
)

func main() {
	service.RunCLI(context.Background(), service.CLIOptSetVersion("${benthos#v}", ""))
}
END

build collector \
  "go.opentelemetry.io/collector/otelcol@$collector" \
  "go.opentelemetry.io/collector/exporter/debugexporter@$collector" \
  "go.opentelemetry.io/collector/processor/memorylimiterprocessor@$collector" \
  "go.opentelemetry.io/collector/receiver/otlpreceiver@$collector" \
  "go.opentelemetry.io/collector/service/telemetry/otelconftelemetry@$collector" \
  "go.opentelemetry.io/collector/confmap/provider/envprovider@$stable" \
  "go.opentelemetry.io/collector/confmap/provider/fileprovider@$stable" \
  "go.opentelemetry.io/collector/confmap/provider/yamlprovider@$stable" \
  "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter@$contrib"
build benthos \
  "github.com/redpanda-data/benthos/v4/public/service@$benthos" \
  "github.com/redpanda-data/benthos/v4/public/components/io@$benthos" \
  "github.com/redpanda-data/benthos/v4/public/components/pure@$benthos"
# A program of its own, with the versions that its own go.mod names.
info=github.com/VictoriaMetrics/VictoriaMetrics/lib/buildinfo.Version
GOBIN="$folder" go install -trimpath -ldflags="-s -w -X $info=victoria-logs-$victorialogs" \
  "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@$victorialogs"
"$folder/collector" --version
"$folder/benthos" --version
"$folder/victoria-logs" --version
