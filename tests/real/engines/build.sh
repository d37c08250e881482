#!/usr/bin/env bash
# Gets the CI engines that test_engines.py runs the manual's recipes in.
#
#     tests/real/engines/build.sh FOLDER
#     RILLEVENTS_ENGINES=FOLDER python -m pytest tests/real/engines -n0 -s
#
# FOLDER/act is nektos/act 0.2.89, FOLDER/buildkite-agent Buildkite's agent 3.50.4 (the newest one whose modules are all to be had),
# both from their public Go modules; FOLDER/npm holds gitlab-ci-local 4.52.2. Needs Go, Node with npm, git and make, and rsync, which
# gitlab-ci-local calls.
set -euo pipefail

if (($# != 1)); then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
export GOBIN="$folder" GOWORK=off GOFLAGS=-trimpath
go install github.com/nektos/act@v0.2.89
go install github.com/buildkite/agent/v3@v3.50.4
mv "$folder/agent" "$folder/buildkite-agent"
npm install --silent --prefix "$folder/npm" gitlab-ci-local@4.52.2
"$folder/act" --version
"$folder/buildkite-agent" --version
"$folder/npm/node_modules/.bin/gitlab-ci-local" --version
