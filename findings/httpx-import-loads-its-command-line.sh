#!/usr/bin/env bash
# `import httpx` loads httpx's command line, with rich and Pygments, where click and rich happen to be installed.
#
# Expected: a library's own command line is loaded by its command. The extra `httpx[cli]` names what that needs, so a program that
#   did not ask for the extra pays nothing for it.
# Seen: httpx 0.28.1 tries the import of its command line at each `import httpx`, and an ImportError is what leaves it out. click
#   and rich come with many other packages (Typer brings rich, uvicorn brings click), without the extra ever being named. Then
#   `import httpx` also loads click, rich and some of Pygments: about twice as many modules. The same httpx, the same program.
# Versions: httpx 0.28.1, click 8.1.8, rich 14.0.0, CPython 3.11.7; 2026-11-28.
# Why it matters to telemetry: a command that sends one event is a process of its own, and the import of its HTTP library is most of
#   what it takes. How long depends on what else stands in the environment. Measure with all extras installed; httpcore, with which
#   httpx sends, loads none of it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@"; }

# Prints how many modules `import httpx` loads, and which of three packages are among them.
loaded() {
  "$folder/venv/bin/python" -c '
import sys
before = set(sys.modules)
import httpx
new = set(sys.modules) - before
print(len(new), *sorted({"click", "rich", "pygments"} & new))'
}

pip httpx==0.28.1
alone=$(loaded)
pip click==8.1.8 rich==14.0.0
beside=$(loaded)
"$folder/venv/bin/python" -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("httpx", "click", "rich")))'
printf 'alone:                 %s\nclick and rich beside: %s\n' "$alone" "$beside"

case $alone in *click* | *rich*) echo "httpx alone loads them, too" >&2; exit 1 ;; esac
case $beside in *click*pygments*rich*) ;; *) echo "httpx does not load its command line any more" >&2; exit 1 ;; esac
[ "${beside%% *}" -gt "$((${alone%% *} * 3 / 2))" ] || { echo "it is not much more any more" >&2; exit 1; }
