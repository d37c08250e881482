#!/usr/bin/env bash
# `import httpcore` starts a process, /sbin/ldconfig, where trio happens to be installed.
#
# Expected: importing a library for HTTP starts no process. Trio is one of the two ways in which httpcore can wait; a program that
#   uses its plain, blocking connections has nothing to do with it.
# Seen: httpcore 1.0.9 tries `import trio` whenever it is imported itself. trio 0.32.0 looks for libpthread while it is imported, to
#   name its threads, by ctypes.util.find_library, and on Linux that runs `ldconfig -p` (and, where it is missing, gcc and ld).
#   So the blocking client of a program that never names trio forks at its import, and loads about twice as many modules. Trio comes
#   with selenium, among others.
# Why it matters to telemetry: sending one event is a process of its own, and this doubles what it costs; where a policy forbids
#   new processes (seccomp, RLIMIT_NPROC, a distroless image) the import is slower or noisy in a job that only wanted to report.
#   A command-line program can say before the import that trio is not there.
# Versions: httpcore 1.0.9, trio 0.32.0, CPython 3.11.7, Debian 12; 2026-11-29.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@"; }
# Prints which programs `import httpcore` starts, and how many modules it loads.
watched() {
  "$folder/venv/bin/python" -c '
import sys
started = []
sys.addaudithook(lambda event, args: started.append(str(args[0])) if event == "subprocess.Popen" else None)
before = len(sys.modules)
import httpcore
print(len(sys.modules) - before, "modules; started:", *(started or ["nothing"]))'
}

pip httpcore==1.0.9
alone=$(watched)
pip trio==0.32.0
beside=$(watched)
"$folder/venv/bin/python" -c 'import importlib.metadata as m; print(*(f"{n} {m.version(n)}" for n in ("httpcore", "trio")))'
printf 'alone:       %s\ntrio beside: %s\n' "$alone" "$beside"
case $alone in *"started: nothing") ;; *) echo "httpcore alone starts a process, too" >&2; exit 1 ;; esac
case $beside in *ldconfig*) ;; *) echo "nothing is started any more" >&2; exit 1 ;; esac
