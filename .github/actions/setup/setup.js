// Installs rillevents into a virtual environment and puts it on the job's PATH. Nothing that fails here fails the job.
"use strict";

const { spawnSync } = require("child_process");
const fs = require("fs");
const os = require("os");
const path = require("path");
const { append, input, mask, warn } = require("./runner");

// Downloading takes seconds; an index that hangs takes as long as it is let.
const INSTALL_MS = 180_000;
// What runs in place of the tool if there is none: the command of `run`, and nothing else.
const STAND_IN = `#!/bin/sh
[ "$1" = run ] || exit 0
until [ "$1" = -- ]; do shift || exit 2; done
shift
exec "$@"
`;

function main() {
  for (const secret of secrets()) mask(secret);
  const folder = path.join(process.env.RUNNER_TEMP || os.tmpdir(), "rillevents");
  const bin = path.join(folder, "bin");
  const tool = path.join(bin, "rillevents");
  const problem = install(folder, tool);
  if (problem) {
    warn(`rillevents does not run, so this job has no events: ${problem}`);
    fs.mkdirSync(bin, { recursive: true });
    fs.writeFileSync(tool, STAND_IN, { mode: 0o755 });
    fs.chmodSync(tool, 0o755);
  }
  append("PATH", bin);
  // What the workflow sets itself stands.
  for (const [name, value] of [["RILLEVENTS_ON_ERROR", "ignore"], ["RILLEVENTS_CI_CONTEXT", "1"]]) {
    if (!process.env[name]) append("ENV", `${name}=${value}`);
  }
  if (problem) return;
  append("STATE", `tool=${tool}`);
  append("STATE", `started=${Date.now()}`);
  if (input("status")) {
    spawnSync(tool, ["record", "behavioral", "job-start", "--ci"], { stdio: ["ignore", "inherit", "inherit"], timeout: 10_000 });
  }
}

/** Returns why the tool does not run, or "" if it does. */
function install(folder, tool) {
  const deadline = Date.now() + INSTALL_MS;
  const steps = [
    [input("python") || "python3", "-m", "venv", folder],
    [path.join(folder, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "--retries", "1", input("install")],
    [tool, "--version"],
  ];
  for (const [command, ...words] of steps) {
    const left = deadline - Date.now();
    if (left <= 0) return "the installation took too long";
    const done = spawnSync(command, words, { stdio: ["ignore", "pipe", "pipe"], encoding: "utf8", timeout: left });
    if (done.error) return `${command}: ${done.error.code || done.error.message}`;
    if (done.status !== 0) return lastLine(done.stderr) || `${command} ended with ${done.status ?? done.signal}`;
  }
  return "";
}

function lastLine(text) {
  return text.trim().split("\n").pop();
}

function secrets() {
  const found = [input("intake-password")];
  try {
    const { password } = new URL(input("intake-url"));
    found.push(password, decodeURIComponent(password));
  } catch {
    // Not a URL: the delivery says so.
  }
  return found;
}

try {
  main();
} catch (error) {
  warn(`rillevents could not be set up: ${error.message}`);
}
