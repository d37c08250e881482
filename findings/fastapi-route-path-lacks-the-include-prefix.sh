#!/usr/bin/env bash
# The template of the route that served a request, for a metric by route, is what middleware reads from `scope["route"].path`.
#
# Expected: that is the whole template, as FastAPI had it for years: a router that is included with a prefix has the prefix in
#   its routes' paths.
# Seen: in FastAPI 0.165.0 a router is not copied any more when it is included. `scope["route"]` is the router's own route, whose
#   path lacks the prefix of `include_router(…, prefix="/v1")`: /v1/items/{item} and /v2/items/{item} of one router have one
#   template. The whole one is only in `scope["fastapi"]["effective_route_context"].path`, which no documentation names. With
#   0.115.6 the same program shows the whole template in `scope["route"].path`.
# Why it matters to telemetry: latencies by route are put together for routes that differ, or split when a service is upgraded, and
#   nothing fails. Take the effective path where there is one.
# Versions: FastAPI 0.165.0 with Starlette 1.10.0, FastAPI 0.115.6 with Starlette 0.41.3, CPython 3.11.7; 2026-11-29.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/template.py" <<'END'
import asyncio

import fastapi

application, router = fastapi.FastAPI(), fastapi.APIRouter()


@router.get("/items/{item}")
def item(item: str) -> str:
    return item


application.include_router(router, prefix="/v1")
scope = {
    "type": "http", "method": "GET", "path": "/v1/items/5", "raw_path": b"/v1/items/5", "query_string": b"",
    "headers": [], "root_path": "", "scheme": "http", "server": ("localhost", 80), "http_version": "1.1",
}


async def receive():
    return {"type": "http.request", "body": b""}


async def send(message):
    pass


asyncio.run(application(scope, receive, send))
effective = getattr(scope.get("fastapi", {}).get("effective_route_context"), "path", "none")
print(fastapi.__version__, scope["route"].path, effective)
END

of() {
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" install -q --disable-pip-version-check "fastapi==$1" "starlette==$2"
  "$folder/$1/bin/python" "$folder/template.py"
}

old=$(of 0.115.6 0.41.3)
new=$(of 0.165.0 1.10.0)
printf 'FastAPI, scope["route"].path, the effective path:\n%s\n%s\n' "$old" "$new"
[ "$old" = "0.115.6 /v1/items/{item} none" ]
[ "$new" = "0.165.0 /items/{item} /v1/items/{item}" ] || { echo "changed" >&2; exit 1; }
