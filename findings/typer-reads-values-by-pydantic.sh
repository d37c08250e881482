#!/usr/bin/env bash
# Typer reads the values of a command line through pydantic, which it imports as soon as a command runs.
#
# Expected: Typer stands on click, where a value is read by a small class of its type: `--limit 5` costs a call of `int`, and
#   a value that is no number is refused by name: "'x' is not a valid integer".
# Seen: Typer 0.29.2 has click within itself and requires pydantic. The import of Typer does not load it, but every command that
#   runs does, also one that has flags alone and is given none: the option --help is read as well. And the words of a refusal
#   are pydantic's: "Input should be a valid integer, unable to parse string as an integer", without the value that was meant.
# Versions: Typer 0.29.2, pydantic 2.12.5, CPython 3.11.7; 2026-11-28.
# Why it matters to telemetry: commands of a hook or a CI job run thousands of times, and their users count milliseconds. What is
#   measured by `import typer`, or by `--help`, does not show it. A command that reads its values itself does not pay it.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check typer==0.29.2 pydantic==2.12.5

cat >"$folder/probe.py" <<'PY'
import sys
import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None)

@app.command()
def flag(all: bool = False):
    pass

@app.command()
def value(name: str = "x", limit: int = 3):
    pass

app(standalone_mode=False) if "bad" not in sys.argv else app()
PY
# Prints how many of pydantic's modules a command has loaded.
modules() {
  "$folder/venv/bin/python" -c '
import runpy, sys
sys.argv = ["probe", *sys.argv[2:]]
runpy.run_path(sys.orig_argv[3])
print(sum(name.partition(".")[0] == "pydantic" for name in sys.modules))' "$folder/probe.py" "$@"
}

"$folder/venv/bin/python" -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("typer", "pydantic")))'
import=$("$folder/venv/bin/python" -c 'import sys, typer; print(sum(n.partition(".")[0] == "pydantic" for n in sys.modules))')
flag=$(modules flag)
value=$(modules value)
told=$("$folder/venv/bin/python" "$folder/probe.py" value --limit bad 2>&1 || true)
printf 'import typer: %s modules of pydantic\na flag:       %s\na default:    %s\n%s\n' "$import" "$flag" "$value" "$told"

[ "$import" = 0 ] || { echo "typer imports pydantic at once" >&2; exit 1; }
[ "$flag" -gt 20 ] && [ "$value" -gt 20 ] || { echo "values are read without pydantic" >&2; exit 1; }
case $told in *"valid integer, unable to parse"*) ;; *) echo "the words are others now" >&2; exit 1 ;; esac
