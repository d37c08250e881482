#!/usr/bin/env bash
# An OpenTelemetry Collector that reads a file drops a good part of it, at default settings and with a healthy destination.
#
# Expected: `file_log` (the receiver of files, formerly filelog) reads as quickly as the exporter can send. A file does not go away,
#   so reading waits while the queue is full; at least, what the queue refuses is read again.
# Seen: the exporter's default `sending_queue` holds 1,000 requests and refuses more at once (`block_on_overflow` is off), and the
#   receiver's `retry_on_failure` is off as well. The receiver reads 100 lines a request, more quickly than they are sent, so after
#   the first 100,000 lines it runs into the full queue: what is refused is logged, dropped, and counts as read. Of a file of 400,000
#   lines 138,500 and 140,400 arrived (two runs) at a destination that answered each request with 200 at once. With
#   `block_on_overflow: true` all of it arrives.
# Versions: OpenTelemetry Collector 0.165.0 with file_log 0.165.1 and otlp_http 0.165.0; 2026-11-28.
# Why it matters to telemetry: an NDJSON file of events is what a Collector is pointed at when a machine comes back, or when a log is
#   large: then a backlog is read at once. Set `block_on_overflow: true`, or switch the queue off, and compare the counts.
set -euo pipefail

folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
# A Collector of these two parts, from the public Go modules. It takes minutes the first time.
"$(dirname "$0")/../tests/benchmarks/peers_go.sh" "$folder/programs" >"$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }

lines=400000
python3 - "$folder/events.ndjson" "$lines" <<'PY'
import sys
with open(sys.argv[1], "w") as file:
    for number in range(int(sys.argv[2])):
        file.write('{"event_id":"e-%08d","event_time":"2026-11-23T10:00:00Z","event_type":"log","event_name":"n"}\n' % number)
PY
# A destination that takes everything at once, and writes down how many of the events it has.
cat >"$folder/destination.py" <<'PY'
import http.server, sys, threading
count, lock = 0, threading.Lock()

class Destination(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        global count
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            count += body.count(b'{"event_id":"')
            with open(sys.argv[1] + "/count", "w") as file:
                file.write(str(count))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Destination)
with open(sys.argv[1] + "/port", "w") as file:
    file.write(str(server.server_address[1]))
server.serve_forever()
PY

# Prints how many of the lines arrive with these settings of the queue: once nothing more has come for five seconds.
arrived() {
  rm -f "$folder/port" "$folder/count"
  echo 0 >"$folder/count"
  python3 "$folder/destination.py" "$folder" &
  local destination=$!
  until [ -s "$folder/port" ]; do sleep 0.1; done
  cat >"$folder/config.yaml" <<YAML
receivers:
  file_log: {include: ["$folder/events.ndjson"], start_at: beginning}
exporters:
  otlp_http:
    logs_endpoint: "http://127.0.0.1:$(cat "$folder/port")/v1/logs"
    compression: none
    sending_queue: $1
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    logs: {receivers: [file_log], exporters: [otlp_http]}
YAML
  "$folder/programs/collector" --config "$folder/config.yaml" >"$folder/collector.log" 2>&1 &
  local collector=$! before=-1
  sleep 2
  while [ "$before" != "$(cat "$folder/count")" ]; do before=$(cat "$folder/count") && sleep 5; done
  kill "$collector" && wait "$collector" || true
  kill "$destination" && wait "$destination" || true
  cat "$folder/count"
}

"$folder/programs/collector" --version
defaults=$(arrived '{}')
grep -o 'sending queue is full' "$folder/collector.log" | sort | uniq -c || true
blocking=$(arrived '{block_on_overflow: true}')
printf '%s lines in the file\nby default:             %s arrived\nblock_on_overflow: true %s arrived\n' "$lines" "$defaults" "$blocking"
[ "$blocking" = "$lines" ] || { echo "block_on_overflow does not help any more" >&2; exit 1; }
[ "$defaults" -lt "$lines" ] || { echo "nothing is dropped any more" >&2; exit 1; }
