#!/usr/bin/env bash
# hatchling drops the environment marker of a self-referential extra.
#
# Expected: an extra that refers to another one under a condition, `name[other]; python_version < '3'`, asks for the other
#   one's packages under that condition alone. setuptools writes the reference and its marker into the metadata as they are.
# Seen: hatchling 1.33.0 writes what the reference stands for in its place, and the marker is gone, so the package is asked
#   for by every Python. A marker on the referred requirement itself is kept. No warning.
# Versions: hatchling 1.33.0, setuptools 80.9.0, CPython 3.11.7; 2026-11-28.
# Why it matters to telemetry: its back ends (a Kafka client, compressors, protocol buffers) are optional because they are
#   compiled, and some have no wheel for a new Python yet. An extra for tests, or for everything, that leaves one out by a
#   marker on the reference does not: the installation begins to compile, and fails. Repeat the requirement with its marker.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check hatchling==1.33.0 setuptools==80.9.0 wheel==0.45.1

# Prints what the metadata says of the extra `some`, as the backend makes it.
requirements_by() {
  mkdir "$folder/$1" && cd "$folder/$1" && mkdir probe && touch probe/__init__.py
  cat >pyproject.toml <<TOML
[build-system]
requires = []
build-backend = "$2"

[project]
name = "probe"
version = "1"

[project.optional-dependencies]
plain = ["six"]
some = ["probe[plain]; python_version < '3'"]
TOML
  "$folder/venv/bin/pip" wheel -q --disable-pip-version-check --no-build-isolation --no-deps -w "$folder/wheels-$1" .
  unzip -p "$folder/wheels-$1"/*.whl '*/METADATA' | grep -E "^Requires-Dist: .*extra == .some"
}

"$folder/venv/bin/python" -c 'import importlib.metadata as m; print("hatchling", m.version("hatchling"), "setuptools", m.version("setuptools"))'
by_setuptools=$(requirements_by setuptools setuptools.build_meta)
by_hatchling=$(requirements_by hatchling hatchling.build)
printf 'setuptools: %s\nhatchling:  %s\n' "$by_setuptools" "$by_hatchling"

case $by_setuptools in *"python_version < \"3\""*) ;; *) echo "setuptools does not keep the marker any more" >&2; exit 1 ;; esac
case $by_hatchling in *python_version*) echo "hatchling keeps the marker now" >&2; exit 1 ;; esac
