#!/usr/bin/env bash
# Builds two programs that flush.py compares `rillevents flush` with, from their public Go modules.
#
#     tests/benchmarks/peers_go.sh FOLDER
#     python tests/benchmarks/flush.py --collector FOLDER/collector --benthos FOLDER/benthos
#
# FOLDER/collector is an OpenTelemetry Collector of two parts: the receiver that reads files (file_log, v0.165.1) and the
# exporter that sends OTLP over HTTP (otlp_http, v0.165.0). The Collector's own modules are v0.165.0, the stable ones v1.71.0.
# FOLDER/benthos is Redpanda's Benthos v4.60.0 with its components that need no other system: files and HTTP among them.
#
# Needs Go 1.26 or newer, and whichever module proxy Go is set to. The sources are in a temporary folder, which is removed at the
# end; the modules stay in Go's own cache. The first build takes minutes.
set -euo pipefail

collector=v0.165.0
stable=v1.71.0
filelog=v0.165.1
benthos=v4.60.0

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
  go mod init "peers/$name"
  go get "$@"
  go build -trimpath -ldflags="-s -w" -o "$folder/$name" .
}

mkdir "$work/collector" "$work/benthos"
cat >"$work/collector/main.go" <<END
package main

import (
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/confmap/provider/yamlprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func factories() (found otelcol.Factories, err error) {
	found.Telemetry = otelconftelemetry.NewFactory()
	if found.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](filelogreceiver.NewFactory()); err != nil {
		return
	}
	found.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](otlphttpexporter.NewFactory())
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

build benthos \
  "github.com/redpanda-data/benthos/v4/public/service@$benthos" \
  "github.com/redpanda-data/benthos/v4/public/components/io@$benthos" \
  "github.com/redpanda-data/benthos/v4/public/components/pure@$benthos"
build collector \
  "go.opentelemetry.io/collector/otelcol@$collector" \
  "go.opentelemetry.io/collector/exporter/otlphttpexporter@$collector" \
  "go.opentelemetry.io/collector/service/telemetry/otelconftelemetry@$collector" \
  "go.opentelemetry.io/collector/confmap/provider/envprovider@$stable" \
  "go.opentelemetry.io/collector/confmap/provider/fileprovider@$stable" \
  "go.opentelemetry.io/collector/confmap/provider/yamlprovider@$stable" \
  "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/filelogreceiver@$filelog"
"$folder/collector" --version
"$folder/benthos" --version
