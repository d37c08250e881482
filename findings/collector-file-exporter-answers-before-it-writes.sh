#!/usr/bin/env bash
# An OpenTelemetry Collector that writes to a file answers 200 before it has written, although its pipeline has no queue.
#
# Expected: without a queue or a batch processor, a receiver answers when the exporter is done, and the file exporter is done when
#   the operating system has the bytes. So a Collector that is killed loses nothing that it has answered.
# Seen: the exporter writes into a buffer of 4 KiB, which goes to the file when it is full and once a second (`flush_interval`). One
#   record was answered with 200, the process was killed (SIGKILL) right after the answer, and the file had 0 bytes, five times out
#   of five. Killed two seconds later, it had the record each time. With `rotation` set there is no buffer, and the record survives
#   the kill. The exporter's README says so among the details of `flush_interval`: buffering cannot be switched off, 0 means 1 s.
# Versions: OpenTelemetry Collector 0.165.0 with the file exporter 0.165.1; 2026-11-28.
# Why it matters to telemetry: a sender deletes its copy as soon as it has the answer. What the Collector then holds in memory alone
#   is lost when it is killed, for want of memory for example. Set `rotation` where the file is the destination, or is to prove
#   what arrived. It still is not synced: a crash of the machine may lose it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A Collector of two parts, from the public Go modules. It takes minutes the first time.
mkdir "$folder/source"
cat >"$folder/source/main.go" <<'GO'
package main

import (
	"os"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func factories() (found otelcol.Factories, err error) {
	found.Telemetry = otelconftelemetry.NewFactory()
	if found.Receivers, err = otelcol.MakeFactoryMap[receiver.Factory](otlpreceiver.NewFactory()); err != nil {
		return
	}
	found.Exporters, err = otelcol.MakeFactoryMap[exporter.Factory](fileexporter.NewFactory())
	return
}

func main() {
	providers := []confmap.ProviderFactory{envprovider.NewFactory(), fileprovider.NewFactory()}
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "collector"},
		Factories: factories,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{ProviderFactories: providers},
		},
	})
	if err := command.Execute(); err != nil {
		os.Exit(1)
	}
}
GO
build() (
  cd "$folder/source"
  export GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
  go mod init probe/collector
  go get \
    "go.opentelemetry.io/collector/otelcol@v0.165.0" \
    "go.opentelemetry.io/collector/receiver/otlpreceiver@v0.165.0" \
    "go.opentelemetry.io/collector/service/telemetry/otelconftelemetry@v0.165.0" \
    "go.opentelemetry.io/collector/confmap/provider/envprovider@v1.71.0" \
    "go.opentelemetry.io/collector/confmap/provider/fileprovider@v1.71.0" \
    "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter@v0.165.1"
  nice -n 10 go build -trimpath -ldflags="-s -w" -o "$folder/collector" .
)
build >"$folder/build.log" 2>&1 || { cat "$folder/build.log" >&2; exit 1; }
go version -m "$folder/collector" | awk '/\/(otelcol|otlpreceiver|fileexporter)\t/ { print $2, $3 }'

cat >"$folder/probe.py" <<'PY'
import http.client, json, pathlib, socket, subprocess, sys, time

program, folder = sys.argv[1], pathlib.Path(sys.argv[2])
stored, config = folder / "stored.json", folder / "config.yaml"
record = {"timeUnixNano": str(time.time_ns()), "body": {"stringValue": "one"}}
body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})

def left(settings, pause):
    """Return the answer to one record, and what the file has if the Collector is killed so many seconds after that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    stored.unlink(missing_ok=True)
    # In YAML, of which JSON is a part.
    config.write_text(json.dumps({
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{port}"}}}},
        "exporters": {"file": {"path": str(stored), **settings}},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}},
        },
    }))
    with (folder / "collector.log").open("w+") as log:
        collector = subprocess.Popen([program, "--config", str(config)], stdout=log, stderr=log)
        try:
            connection, end = http.client.HTTPConnection("127.0.0.1", port, timeout=60), time.monotonic() + 60
            while connection.sock is None:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    if collector.poll() is not None or time.monotonic() > end:
                        sys.exit(f"the Collector does not listen:\n{pathlib.Path(log.name).read_text()}")
                    time.sleep(0.01)
            connection.request("POST", "/v1/logs", body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
            time.sleep(pause)
        finally:
            collector.kill()
            collector.wait()
            connection.close()
    return status, stored.read_bytes() if stored.exists() else b""

def five(name, settings, pause):
    """Do it five times, print the answers and the sizes of the file, and return what it had."""
    statuses, contents = zip(*(left(settings, pause) for _ in range(5)))
    print(f"{name} answers {statuses}, bytes in the file {tuple(map(len, contents))}", flush=True)
    if set(statuses) != {200}:
        sys.exit("not all were answered with 200")
    return contents

at_once = five("no rotation, killed at once:  ", {}, 0)
later = five("no rotation, killed after 2 s:", {}, 2)
rotated = five("rotation, killed at once:     ", {"rotation": {"max_megabytes": 100}}, 0)
if not all(b'"stringValue":"one"' in content and content.endswith(b"\n") for content in later):
    sys.exit("two seconds later it is not in the file either")
if not all(b'"stringValue":"one"' in content and content.endswith(b"\n") for content in rotated):
    sys.exit("with rotation it is not written at once any more")
# The second may end between one of the answers and its kill.
if at_once.count(b"") < 4:
    sys.exit("it is written before the answer now")
PY
python3 "$folder/probe.py" "$folder/collector" "$folder"
