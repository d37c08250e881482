// What the page requests from the server, and when; live.js and figures.js show it.

import { inBars } from "./bars.js";
import { Chosen } from "./chosen.js";
import { Controls } from "./controls.js";
import { Figures } from "./figures.js";
import { Installs } from "./installs.js";
import { Live } from "./live.js";
import { byId, clock, grouped, say, zone } from "./text.js";

const POLL_MS = 2000;
const FIGURES_MS = 6000;
// The wait between requests for figures is this multiple of their duration, so that viewing does not load a large store.
const SPARED = 15;
const PATIENCE_MS = 20_000;
const LONGEST_WAIT_MS = 15_000;

const chosen = new Chosen();
const controls = new Controls(chosen, () => {
  figures.mark(null);
  installs.showChosen();
  live.restart();
  atOnce();
});
const live = new Live(ask, controls);
const figures = new Figures(controls);
const installs = new Installs(ask, controls);
let figuresDue = 0;
let newest = "";
let failures = 0;
let goneSince = null;
let timer = 0;
let countdown = 0;
let isAsking = false;
let isDueAtOnce = false;

async function ask(path, parameters, parse = JSON.parse) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "");
  // With the full origin: browsers refuse to fetch a URL relative to an address that contains a password.
  const [response, text] = await answer(`${location.origin}${path}?${new URLSearchParams(given)}`);
  if (!response.ok) throw new Refusal(response.status, text);
  return parse(text);
}

async function answer(url) {
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    return [response, await response.text()];
  } catch {
    throw new Gone();
  }
}

class Gone extends Error {}

class Refusal extends Error {
  constructor(status, text) {
    super(`${status}`);
    // What was asked is at fault, and stays so until something else is chosen.
    this.isFinal = status === 400 || status === 431;
    try {
      this.told = JSON.parse(text).error;
    } catch {
      this.told = `the answer was ${status}`;
    }
  }
}

// Polling

async function round() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (isAsking) {
    isDueAtOnce = true;
    return;
  }
  isAsking = true;
  let wait = POLL_MS;
  try {
    await live.poll();
    if (Date.now() >= figuresDue) await refresh();
    arrived();
  } catch (error) {
    failures += 1;
    wait = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** (failures - 1));
    failed(error, wait);
  }
  isAsking = false;
  if (isDueAtOnce) wait = 0;
  isDueAtOnce = false;
  timer = setTimeout(round, wait);
}

async function refresh() {
  const began = performance.now();
  const { sizes, ...times } = chosen.times;
  const asked = live.round;
  const stats = await ask("/api/stats", { ...chosen.filter, ...times, by: chosen.by }, grouped);
  // Something else was chosen since this was requested.
  if (asked !== live.round) {
    isDueAtOnce = true;
    return;
  }
  figures.showStats(inBars(stats, { buckets: times.buckets, sizes }));
  if (figures.hasMore) {
    const { counts } = await ask("/api/stats", { ...chosen.filter, ...times, type: "metric" });
    if (asked === live.round) figures.offerMetrics(counts);
  }
  controls.offer(stats.counts);
  figures.showRejected(await ask("/api/rejected", { limit: 50 }));
  await values(stats, asked);
  await installs.refresh(stats, () => asked === live.round);
  if (asked === live.round) figuresDue = Date.now() + Math.max(FIGURES_MS, SPARED * (performance.now() - began));
  await older(stats);
}

async function values(stats, asked) {
  const name = figures.metric;
  const given = { name, since: stats.since, until: stats.until, attributes: chosen.attributesText, by: chosen.by, bins: 40 };
  const found = name ? await ask("/api/values", given, grouped) : { values: 0, histogram: [] };
  if (asked === live.round) figures.showValues(found);
}

// Where the range is empty: the time of the newest event of all, so that nobody takes the store for empty.
async function older(stats) {
  newest = "";
  if (chosen.isFiltered || stats.total || byId("list").childElementCount) return;
  const { events } = await ask("/api/events", { limit: 1 });
  newest = events[0]?.event_time ?? "";
}

function atOnce() {
  figuresDue = 0;
  round();
}

function state(name, text) {
  byId("state").dataset.state = name;
  say(byId("state-text"), text);
}

function arrived() {
  const { stats } = figures;
  if (!stats) return;
  failures = 0;
  goneSince = null;
  clearInterval(countdown);
  byId("gone").hidden = true;
  document.body.classList.remove("stale");
  state("live", "live");
  const isEmpty = !newest && !chosen.isFiltered && stats.total === 0 && stats.rejected === 0 && byId("list").childElementCount === 0;
  byId("empty").hidden = !isEmpty;
  byId("full").hidden = isEmpty;
  say(byId("none"), newest ? `No events in this time range. The newest event is of ${clock(newest)}.` : "No events match.");
}

function failed(error, wait) {
  goneSince ??= new Date();
  const isThere = error instanceof Refusal;
  const isOurs = !isThere && !(error instanceof Gone);
  if (isOurs) console.error(error);
  const what = isThere ? `The server says: ${error.told}.` : `No answer from ${location.host}.`;
  say(byId("gone-what"), isOurs ? "This page could not show the answer." : what);
  const stands = `The data shown is from ${clock(goneSince.toISOString())}.`;
  say(byId("gone-since"), error.isFinal ? "What is shown belongs to what was chosen before: choose something else, or go back." : stands);
  byId("gone").hidden = false;
  document.body.classList.add("stale");
  state("gone", error instanceof Gone ? "server gone" : error.isFinal ? "not answered" : "server error");
  const until = Date.now() + wait;
  const tell = () => say(byId("gone-next"), error.isFinal ? "" : `Next try in ${Math.max(0, Math.ceil((until - Date.now()) / 1000))} s.`);
  clearInterval(countdown);
  countdown = setInterval(tell, 500);
  tell();
}

// User actions

function listen() {
  installs.showChosen();
  say(byId("host"), location.host);
  say(byId("zone"), `Times are in ${zone()}.`);
  say(byId("type-export"), `export RILLEVENTS_INTAKE_URL=${location.origin}/events/default`);
  byId("pause").addEventListener("click", round);
  byId("again").addEventListener("click", atOnce);
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.addEventListener("click", async () => {
      const code = byId(button.dataset.copies);
      getSelection().selectAllChildren(code);
      try {
        await navigator.clipboard.writeText(code.textContent);
        say(button, "Copied");
      } catch {
        // The browser does not allow it: the selected text can be copied by hand.
        return;
      }
      setTimeout(() => say(button, "Copy"), 1500);
    });
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : round()));
}

listen();
round();
