// Delivers the job's events. It runs after all other steps and never fails the job: what is not delivered stays in the spool.
"use strict";

const { spawnSync } = require("child_process");
const { input, warn } = require("./runner");

// What a flush needs beside its own time: Python's start, and a last answer.
const MARGIN_MS = 10_000;
const OUTCOMES = ["success", "failure", "cancelled"];

function main() {
  const tool = process.env.STATE_tool;
  // The set-up has said why.
  if (!tool) return;
  // Read now, not at the set-up: the runner works the input out again for this step.
  const status = input("status").toLowerCase();
  if (OUTCOMES.includes(status)) {
    const seconds = (Date.now() - Number(process.env.STATE_started)) / 1000;
    run(tool, ["record", "behavioral", `job-${status}`, "-a", `duration_s:=${seconds}`, "--ci"], 10_000);
  }
  const timeout = Number(input("timeout") || "20");
  if (!(timeout > 0)) {
    warn(`timeout: ${input("timeout")} is not a number of seconds; 20 are taken`);
  }
  const seconds = timeout > 0 ? timeout : 20;
  const summary = process.env.GITHUB_STEP_SUMMARY;
  const more = input("summary") === "true" && summary ? ["--summary", summary] : [];
  run(tool, ["flush", "--timeout", String(seconds), ...more], seconds * 1000 + MARGIN_MS);
}

function run(tool, words, milliseconds) {
  const done = spawnSync(tool, words, { stdio: ["ignore", "inherit", "inherit"], env: environment(), timeout: milliseconds });
  if (done.error) warn(`rillevents ${words[0]} did not end: ${done.error.code || done.error.message}`);
}

/** Returns the job's environment with where the events go, which no other step has to see. */
function environment() {
  const given = {
    RILLEVENTS_INTAKE_URL: input("intake-url"),
    RILLEVENTS_INTAKE_USER: input("intake-user"),
    RILLEVENTS_INTAKE_PASSWORD: input("intake-password"),
  };
  return { ...process.env, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value)) };
}

try {
  main();
} catch (error) {
  warn(`the events could not be delivered: ${error.message}`);
}
