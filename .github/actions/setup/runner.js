// What the runner of a job gives to an action and takes from it.
// https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"use strict";

const fs = require("fs");

/** Returns an input of the action, without space around it; "" if it is not given. */
exports.input = (name) => (process.env[`INPUT_${name.toUpperCase()}`] || "").trim();

/** Shows a line at the job's summary, without any effect on its result. */
exports.warn = (message) => console.log(`::warning title=rillevents::${escaped(message)}`);

/** Hides a text in the job's log from now on. */
exports.mask = (text) => text && console.log(`::add-mask::${escaped(text)}`);

/** Adds a line to the file that the variable `GITHUB_<file>` names. */
exports.append = (file, line) => fs.appendFileSync(process.env[`GITHUB_${file}`], `${line}\n`);

function escaped(text) {
  return text.replace(/%/g, "%25").replace(/\r/g, "%0D").replace(/\n/g, "%0A");
}
