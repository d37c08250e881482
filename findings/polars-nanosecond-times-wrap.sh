#!/usr/bin/env bash
# Polars turns a time after 2262 into one of another century, without an error, where nanoseconds are asked for.
#
# Expected: str.to_datetime(time_unit="ns") raises for a time that 64 bits of nanoseconds cannot hold, as it does, with strict=True (the
#   default), for a text that is no time; or it gives null with strict=False.
# Seen: 2300-01-01 becomes 1715-06-13, strict or not, and 1600-01-01 becomes 2184-07-20: the number of nanoseconds is taken modulo 2^64. With
#   time_unit="us" the times are right. DuckDB's TIMESTAMP_NS and PyArrow's timestamp("ns") refuse the same text.
# Version: Polars 2.1.0; 2026-11-29.
# Why it matters to telemetry: a wrong clock writes times such as 2300 or 9999. They should stand out at the end of a chart; here they
#   are events of a plausible past. Nanoseconds are asked for because event times have them, and time_unit="us" cuts these.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check polars==2.1.0

cat >"$folder/probe.py" <<'PY'
import sys

import polars as pl

print("Polars", pl.__version__)
TEXTS = ["2026-11-23T10:00:00Z", "2300-01-01T00:00:00Z", "1600-01-01T00:00:00Z"]
text = pl.Series(TEXTS)

def years(unit, strict):
    """Return what the texts become, or the error."""
    try:
        return text.str.to_datetime(time_unit=unit, time_zone="UTC", strict=strict).dt.year().to_list()
    except pl.exceptions.PolarsError as error:
        return type(error).__name__

seen = {(unit, strict): years(unit, strict) for unit in ("us", "ns") for strict in (True, False)}
for (unit, strict), found in seen.items():
    print(f"time_unit={unit!r}, strict={strict}: {found}")
try:
    pl.Series(["no time"]).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ns", time_zone="UTC")
    sys.exit("a text that is no time is not refused any more")
except pl.exceptions.PolarsError as error:
    print("a text that is no time:", type(error).__name__)
if seen["us", True] != [2026, 2300, 1600]:
    sys.exit("in microseconds they are not right any more")
if not (seen["ns", True] == seen["ns", False] == [2026, 1715, 2184]):
    sys.exit("in nanoseconds they do not wrap any more")
PY
"$folder/venv/bin/python" "$folder/probe.py"
