#!/usr/bin/env bash
# VictoriaLogs stores a list that came by OTLP as text that looks like JSON, but is not: its control characters are quoted as in Go.
#
# Expected: an attribute that is a list becomes the text of a JSON array, as for an event that came by /insert/jsonline.
# Seen: by OTLP, a list of the text U+0001 U+007F is stored as ["\x01\x7f"], which JSON parsers refuse: JSON has no escape \x.
#   By /insert/jsonline the same list stays as it was sent: ["\u0001\u007f"]. Its source says that arrays are encoded as JSON, to
#   match /insert/jsonline. But its JSON library, fastjson 1.6.10, hands a text that has a quotation mark, a backslash or a
#   character below U+0020 to Go's strconv.AppendQuote, which also writes what JSON does not know: \x1b, \a, \v, \U000e0067.
#   A text that is not in a list is kept as it is.
# Versions: VictoriaLogs 1.52.2, opentelemetry-proto 1.45.2; 2026-11-28.
# Why it matters to telemetry: attributes hold what users type and what terminals print, with colours (\x1b) for example. Whoever
#   reads events back and parses the lists fails on few events, late, and only where they came by OTLP. Send them by
#   /insert/jsonline, or replace Go's escapes before parsing.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check opentelemetry-proto==1.45.2
# From its public Go module. It takes minutes the first time.
GOBIN="$folder" GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0 nice -n 10 go install -trimpath -ldflags="-s -w" \
  github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.2 >"$folder/build.log" 2>&1 ||
  { cat "$folder/build.log" >&2; exit 1; }
go version -m "$folder/victoria-logs" | awk '/\/(VictoriaLogs|fastjson)\t/ { print $2, $3 }'

cat >"$folder/probe.py" <<'PY'
import importlib.metadata, json, pathlib, socket, subprocess, sys, time
from urllib.error import URLError
from urllib.request import Request, urlopen

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

folder = pathlib.Path(sys.argv[1])
print("opentelemetry-proto", importlib.metadata.version("opentelemetry-proto"))
TEXT = "\u0001\u007f"
now = time.time_ns()

# The same event twice: as OTLP, in protocol buffers, and as a line of JSON.
data = LogsData()
record = data.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=now)
record.body.string_value = "otlp"
attribute = record.attributes.add(key="list")
attribute.value.array_value.values.add(string_value=TEXT)
line = json.dumps({"time": str(now), "message": "jsonline", "list": [TEXT]})

with socket.create_server(("127.0.0.1", 0)) as listener:
    address = "127.0.0.1:%d" % listener.getsockname()[1]

def ask(path, body=None, kind=""):
    return urlopen(Request(f"http://{address}{path}", body, {"Content-Type": kind}), timeout=60).read()

def until(seen):
    """Return what *seen* finds, as soon as it finds something."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            if found := seen():
                return found
        except URLError:
            pass
        time.sleep(0.1)
    sys.exit(f"it takes too long:\n{(folder / 'log').read_text()}")

def stored():
    """Return the list of both events, by how they came, once both are there."""
    found = [json.loads(each) for each in ask("/select/logsql/query?query=*").splitlines()]
    return {each["_msg"]: each["list"] for each in found} if len(found) == 2 else None

with (folder / "log").open("w") as log:
    words = [str(folder / "victoria-logs"), f"-httpListenAddr={address}", f"-storageDataPath={folder / 'data'}"]
    process = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        until(lambda: ask("/health"))
        ask("/insert/opentelemetry/v1/logs", data.SerializeToString(), "application/x-protobuf")
        ask("/insert/jsonline?_time_field=time&_msg_field=message", line.encode(), "application/stream+json")
        lists = until(stored)
    finally:
        process.kill()
        process.wait()

def read(text):
    """Return what a JSON parser reads, or its error."""
    try:
        return json.loads(text)
    except ValueError as error:
        return error

otlp, jsonline = read(lists["otlp"]), read(lists["jsonline"])
print("by OTLP:     %-18s json.loads: %r" % (lists["otlp"], otlp))
print("by jsonline: %-18s json.loads: %r" % (lists["jsonline"], jsonline))
if jsonline != [TEXT]:
    sys.exit("by /insert/jsonline it is not JSON any more")
if not isinstance(otlp, ValueError):
    sys.exit("by OTLP it is JSON now")
if lists["otlp"] != r'["\x01\x7f"]':
    sys.exit("by OTLP it is not quoted as in Go any more")
PY
"$folder/venv/bin/python" "$folder/probe.py" "$folder"
