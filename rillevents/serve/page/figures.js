// The panels around the list: counts over time and by name, the values of a metric, the rejected events.

import { save } from "./csv.js";
import { drawHistogram, drawSpark, drawStack } from "./draw.js";
import { colourOf, label, series } from "./groups.js";
import { byId, clock, count, element, fill, kindOf, moment, number, say, short, timeOf, visible, written } from "./text.js";

const NAMES = 10;
// The server tells at most this many names apart.
const MOST_NAMES = 50;
const PERCENTILES = ["p50", "p90", "p95", "p99"];
const FIGURES = ["values", "min", ...PERCENTILES, "max", "mean", "sum"];
const REJECTED = ["received_at", "stream", "reason", "event_id", "line", "cut"];

export class Figures {
  // `controls` filters by what is clicked.
  constructor(controls) {
    this.controls = controls;
    this.chosen = controls.chosen;
    this.values = null;
    this.stats = null;
    this.buckets = 60;
    this.marked = null;
    this.metric = "";
    this.names = new Map();
    this.rejected = "";
    this.listen(byId("stack"));
    byId("time-csv").addEventListener("click", () => this.saveTime());
    byId("values-csv").addEventListener("click", () => this.saveValues());
    byId("rejected-csv").addEventListener("click", () => this.saveRejected());
  }

  listen(stack) {
    stack.addEventListener("pointermove", (event) => {
      const box = stack.getBoundingClientRect();
      this.mark(Math.floor(((event.clientX - box.left) / box.width) * this.buckets));
    });
    for (const name of ["pointerleave", "blur"]) stack.addEventListener(name, () => this.mark(null));
    stack.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.mark(this.marked === null ? this.buckets - 1 : this.marked + step);
    });
  }

  showStats(stats) {
    this.stats = stats;
    this.buckets = stats.starts.length;
    this.series = series(stats, this.buckets);
    // Until now: the end of the last bar may lie in the future.
    const minutes = (Math.min(Date.parse(stats.until), Date.now()) - Date.parse(stats.since)) / 60_000;
    const names = stats.counts.length;
    say(byId("total"), count(stats.total));
    say(byId("rate"), minutes > 0 ? number(stats.total / minutes, 3) : "–");
    say(byId("kinds"), names >= MOST_NAMES ? `${MOST_NAMES}+` : count(names));
    say(byId("rejected-total"), count(stats.rejected));
    byId("rejected-total").classList.toggle("bad", stats.rejected > 0);
    say(byId("stats-note"), notes(stats).join(" "));
    say(byId("over-time-title"), `Over time, by ${stats.groups ? short(this.chosen.by, 60) : "type"}`);
    this.drawTime();
    this.showLegend();
    this.showNames();
    if (!this.hasMore) this.offerMetrics();
  }

  // Describe one bar.
  mark(at) {
    const next = at === null ? null : Math.min(Math.max(at, 0), this.buckets - 1);
    if (!this.stats || next === this.marked) return;
    this.marked = next;
    this.drawTime();
  }

  drawTime() {
    const begin = Date.parse(this.stats.since);
    const range = Date.parse(this.stats.until) - begin;
    this.marked = this.marked !== null && this.marked >= this.buckets ? null : this.marked;
    const peak = drawStack(byId("stack"), this.series, this.buckets, this.marked);
    say(byId("peak"), peak ? count(peak) : "");
    // Of days that differ in length the middle one begins off the middle.
    const middle = this.stats.starts[this.buckets / 2] ?? begin + range / 2;
    for (const [where, at] of [["begin", begin], ["middle", middle], ["end", begin + range]]) {
      say(byId(`axis-${where}`), moment(at, range));
    }
    say(byId("readout"), this.marked === null ? `one bar: ${duration(this.stats.bar_seconds)}` : this.told(range));
  }

  told(range) {
    const at = this.marked;
    const parts = this.series.filter((one) => one.buckets[at]).map((one) => `${count(one.buckets[at])} ${one.label}`);
    return `${moment(this.stats.starts[at], range)} · ${parts.join(", ") || "nothing"}`;
  }

  showLegend() {
    const legend = byId("legend");
    const labels = JSON.stringify(this.series.map((one) => [one.colour, one.label]));
    if (legend.dataset.labels !== labels) {
      legend.dataset.labels = labels;
      legend.replaceChildren(...this.series.map((one) => element("li", one.colour, element("span", "", element("bdi", "", one.label)), " ", element("b", ""))));
    }
    this.series.forEach((one, at) => say(legend.children[at].querySelector("b"), count(one.buckets.reduce((a, b) => a + b, 0))));
  }

  // Keep rows, and move them only if their order changes, so that a focused row keeps the focus.
  showNames() {
    const { groups, counts } = this.stats;
    const all = groups ?? counts;
    const shown = all.slice(0, NAMES);
    const rows = groups ? shown.map((one, at) => this.groupRow(one, at)) : shown.map((one) => this.nameRow(one));
    const body = byId("names");
    if (rows.length !== body.childElementCount || rows.some((made, at) => body.children[at] !== made)) {
      const focused = document.activeElement;
      body.replaceChildren(...rows);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
    for (const [key, made] of this.names) if (!rows.includes(made)) this.names.delete(key);
    const more = (this.stats.group_count ?? all.length) - shown.length;
    const most = !groups && all.length >= MOST_NAMES ? "at least " : "";
    say(byId("more-names"), more > 0 ? `and ${most}${count(more)} more` : "");
  }

  nameRow(one) {
    const key = JSON.stringify([one.event_type, one.event_name]);
    const colour = `kind-${kindOf(one.event_type)}`;
    const made = this.kept(key, () => {
      const title = `show only ${short(one.event_type, 120)} ${short(one.event_name, 120)}`;
      return newRow(colour, short(one.event_name, 120), title, () => this.controls.choose(one.event_type, one.event_name));
    });
    drawSpark(made.querySelector("svg"), colour, one.buckets);
    say(made.lastElementChild, count(one.total));
    return made;
  }

  groupRow(one, at) {
    const { by } = this.chosen;
    const colour = colourOf(at);
    const made = this.kept(JSON.stringify([by, one.value, colour]), () => newRow(colour, label(one.value), ...this.filterBy(by, one.value)));
    drawSpark(made.querySelector("svg"), colour, one.buckets);
    say(made.lastElementChild, count(one.total));
    return made;
  }

  // What a click on the value of a group says and does: nothing, where it stands for events without the attribute.
  filterBy(by, value) {
    if (value === null) return [`events without ${short(by, 120)}`, null];
    const text = written(value);
    return [`show only ${short(by, 60)}=${label(value)}`, () => this.controls.filterBy(by, text)];
  }

  kept(key, make) {
    if (!this.names.has(key)) this.names.set(key, make());
    return this.names.get(key);
  }

  // Whether there are more names than the server tells apart, so that `counts` can lack a metric.
  get hasMore() {
    return this.stats.counts.length >= MOST_NAMES && !this.chosen.type;
  }

  offerMetrics(counts = this.stats.counts) {
    const metrics = counts.filter((one) => one.event_type === "metric").map((one) => one.event_name);
    this.metric = metrics.includes(this.chosen.metric) ? this.chosen.metric : metrics[0] ?? "";
    fill(byId("metric"), metrics.sort().map((name) => [name, short(name, 60)]));
    byId("metric").value = this.metric;
    byId("metric").disabled = !metrics.length;
  }

  showValues(found) {
    this.values = found;
    drawHistogram(byId("histogram"), found, PERCENTILES);
    const told = ["min", ...PERCENTILES, "max", "mean"].map((name) => [name, found.values ? number(found[name]) : "–"]);
    const list = byId("percentiles");
    if (!list.childElementCount) {
      list.append(...told.map(([name]) => element("div", name, element("dt", "", name), element("dd", ""))));
    }
    told.forEach(([, text], at) => say(list.children[at].querySelector("dd"), text));
    byId("histogram").setAttribute("aria-label", told.map((pair) => pair.join(" ")).join(", "));
    say(byId("value-begin"), found.values ? number(found.min) : "");
    say(byId("value-end"), found.values ? number(found.max) : "");
    say(byId("value-scale"), found.scale === "log" ? "logarithmic" : "");
    const of = `${count(found.values)} value${found.values === 1 ? "" : "s"}`;
    const note = found.complete ? of : `a sample: the newest ${of}`;
    say(byId("spread-note"), found.values ? note : "No values of a metric here.");
    this.showValueGroups(found);
  }

  showValueGroups(found) {
    const { by } = this.chosen;
    const shown = (found.groups ?? []).slice(0, NAMES);
    byId("value-groups").hidden = !shown.length;
    say(byId("value-by"), short(by, 60));
    // Rebuilt only if something changed: a focused row keeps the focus.
    const now = JSON.stringify([by, shown]);
    const body = byId("value-rows");
    if (body.dataset.now === now) return;
    body.dataset.now = now;
    body.replaceChildren(...shown.map((one) => {
      const head = element("th", "", nameOf("", label(one.value), ...this.filterBy(by, one.value)));
      head.scope = "row";
      const figures = [count(one.count), ...["p50", "p95", "p99"].map((key) => number(one[key]))];
      return element("tr", "", head, ...figures.map((text) => element("td", "total", text)));
    }));
    const more = (found.group_count ?? 0) - shown.length;
    say(byId("more-values"), more > 0 ? `and ${count(more)} more` : "");
  }

  // What the chart shows: a row for each bar and each part of it.
  saveTime() {
    if (!this.stats) return;
    const { stats, chosen } = this;
    const parts = stats.groups
      ? stats.groups.map((one) => [[plain(one.value)], one.buckets])
      : stats.counts.map((one) => [[one.event_type, one.event_name], one.buckets]);
    const rows = parts.flatMap(([keys, counts]) =>
      counts.map((n, at) => [...keys, stats.starts[at], n]));
    save("rillevents-counts.csv", [[...(stats.groups ? [chosen.by] : ["event_type", "event_name"]), "from", "count"], ...rows]);
  }

  saveValues() {
    if (!this.values) return;
    const { values, chosen, metric } = this;
    const by = values.groups ? [chosen.by] : [];
    const row = (keys, one) => [metric, ...keys, ...FIGURES.map((key) => (key === "values" ? one.values ?? one.count : one[key]))];
    const rows = values.groups
      ? values.groups.map((one) => row([plain(one.value)], one))
      : [row([], values)];
    save("rillevents-values.csv", [["event_name", ...by, "count", ...FIGURES.slice(1)], ...rows]);
  }

  saveRejected() {
    if (!this.rejected) return;
    save("rillevents-rejected.csv", [REJECTED, ...JSON.parse(this.rejected).map((one) => REJECTED.map((key) => one[key]))]);
  }

  showRejected(found) {
    const { rejected, total } = found;
    say(byId("rejected-note"), total > rejected.length ? `the newest ${count(rejected.length)} of ${count(total)}` : "");
    const all = JSON.stringify(rejected);
    const list = byId("rejected");
    if (all === this.rejected && list.childElementCount) return;
    this.rejected = all;
    const open = new Set([...list.querySelectorAll("details[open]")].map((made) => made.dataset.key));
    const rows = rejected.map((one) => rejectedRow(one, open));
    list.replaceChildren(...(rows.length ? rows : [element("p", "hint none", "Nothing was rejected.")]));
  }
}

// The value of a group for a cell: none for events without the attribute.
const plain = (value) => (typeof value === "object" && value !== null ? written(value) : value);

// A name or value to click, or plain text where there is nothing to filter by.
function nameOf(colour, text, title, act) {
  const made = element(act ? "button" : "span", `name ${colour}`.trim(), element("bdi", "", text));
  made.title = title;
  if (act) {
    made.type = "button";
    made.addEventListener("click", act);
  }
  return made;
}

function newRow(colour, text, title, act) {
  const spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  spark.setAttribute("class", "spark");
  spark.setAttribute("preserveAspectRatio", "none");
  spark.setAttribute("aria-hidden", "true");
  const head = element("th", "", nameOf(colour, text, title, act));
  head.scope = "row";
  return element("tr", "", head, element("td", "", spark), element("td", "total"));
}

function notes(stats) {
  const found = [];
  if (!stats.complete) found.push(`Too many events for the whole range; counted since ${clock(stats.since)}.`);
  if (stats.kept !== "store") found.push(`This server forwards events; these are ${stats.kept} since it was started.`);
  return found;
}

function duration(seconds) {
  if (seconds >= 3600) return `${number(seconds / 3600, 3)} h`;
  return seconds >= 60 ? `${number(seconds / 60, 3)} min` : `${number(seconds, 3)} s`;
}

function rejectedRow(one, open) {
  const made = element("details", "refusal");
  made.dataset.key = `${one.received_at} ${one.reason} ${one.line.slice(0, 80)}`;
  made.open = open.has(made.dataset.key);
  const reason = element("bdi", "reason", short(one.reason, 300));
  made.append(element("summary", "", timeOf(one.received_at), reason, element("span", "line", short(one.line, 160))));
  made.append(element("pre", "", visible(one.line, true) + (one.cut ? "…" : "")));
  if (one.stream) made.append(element("p", "hint", `stream ${visible(one.stream)}`));
  return made;
}
