// The panels around the list: counts over time and by name, the values of a metric, the rejected events.

import { byKind, drawHistogram, drawSpark, drawStack } from "./draw.js";
import { KINDS, byId, clock, count, element, fill, kindOf, moment, number, say, short, visible } from "./text.js";

const NAMES = 10;
// The server tells at most this many names apart.
const MOST_NAMES = 50;
const PERCENTILES = ["p50", "p90", "p99"];

export class Figures {
  // `choose` is called with the type and the name to filter by.
  constructor(choose) {
    this.choose = choose;
    this.stats = null;
    this.buckets = 60;
    this.marked = null;
    this.metric = "";
    this.names = new Map();
    this.rejected = "";
    this.listen(byId("stack"));
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

  showStats(stats, buckets) {
    this.stats = stats;
    this.buckets = buckets;
    this.kinds = byKind(stats.counts, buckets);
    const minutes = (Date.parse(stats.until) - Date.parse(stats.since)) / 60_000;
    const names = stats.counts.length;
    say(byId("total"), count(stats.total));
    say(byId("rate"), number(stats.total / minutes, 3));
    say(byId("kinds"), names >= MOST_NAMES ? `${MOST_NAMES}+` : count(names));
    say(byId("rejected-total"), count(stats.rejected));
    byId("rejected-total").classList.toggle("bad", stats.rejected > 0);
    say(byId("stats-note"), notes(stats).join(" "));
    this.drawTime();
    this.showLegend();
    this.showNames();
    this.offerMetrics();
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
    const peak = drawStack(byId("stack"), this.kinds, this.buckets, this.marked);
    say(byId("peak"), peak ? count(peak) : "");
    for (const [where, part] of [["begin", 0], ["middle", 0.5], ["end", 1]]) {
      say(byId(`axis-${where}`), moment(begin + part * range, range));
    }
    say(byId("readout"), this.marked === null ? `one bar: ${duration(this.stats.bucket_seconds)}` : this.told(begin, range));
  }

  told(begin, range) {
    const at = this.marked;
    const parts = KINDS.filter((kind) => this.kinds[kind][at]).map((kind) => `${count(this.kinds[kind][at])} ${kind}`);
    return `${moment(begin + (at / this.buckets) * range, range)} · ${parts.join(", ") || "nothing"}`;
  }

  showLegend() {
    const legend = byId("legend");
    if (!legend.childElementCount) {
      legend.append(...KINDS.map((kind) => element("li", `kind-${kind}`, element("span", "", kind), " ", element("b", ""))));
    }
    KINDS.forEach((kind, at) => say(legend.children[at].querySelector("b"), count(this.kinds[kind].reduce((a, b) => a + b, 0))));
  }

  // Keep rows, and move them only if their order changes, so that a focused row keeps the focus.
  showNames() {
    const shown = this.stats.counts.slice(0, NAMES);
    const rows = shown.map((one) => this.nameRow(one));
    const body = byId("names");
    if (rows.length !== body.childElementCount || rows.some((made, at) => body.children[at] !== made)) {
      const focused = document.activeElement;
      body.replaceChildren(...rows);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
    for (const [key, made] of this.names) if (!rows.includes(made)) this.names.delete(key);
    const more = this.stats.counts.length - shown.length;
    const most = this.stats.counts.length >= MOST_NAMES ? "at least " : "";
    say(byId("more-names"), more > 0 ? `and ${most}${more} more` : "");
  }

  nameRow(one) {
    const key = JSON.stringify([one.event_type, one.event_name]);
    if (!this.names.has(key)) this.names.set(key, this.newRow(one));
    const made = this.names.get(key);
    drawSpark(made.querySelector("svg"), kindOf(one.event_type), one.buckets);
    say(made.lastElementChild, count(one.total));
    return made;
  }

  newRow(one) {
    const button = element("button", `name kind-${kindOf(one.event_type)}`, element("bdi", "", short(one.event_name, 120)));
    button.type = "button";
    button.title = `show only ${short(one.event_type, 120)} ${short(one.event_name, 120)}`;
    button.addEventListener("click", () => {
      if (one.event_type === "metric") this.metric = one.event_name;
      this.choose(one.event_type, one.event_name);
    });
    const spark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    spark.setAttribute("class", "spark");
    spark.setAttribute("preserveAspectRatio", "none");
    spark.setAttribute("aria-hidden", "true");
    const head = element("th", "", button);
    head.scope = "row";
    return element("tr", "", head, element("td", "", spark), element("td", "total"));
  }

  offerMetrics() {
    const metrics = this.stats.counts.filter((one) => one.event_type === "metric").map((one) => one.event_name);
    if (!metrics.includes(this.metric)) this.metric = metrics[0] ?? "";
    fill(byId("metric"), metrics.sort().map((name) => [name, short(name, 60)]));
    byId("metric").value = this.metric;
    byId("metric").disabled = !metrics.length;
  }

  showValues(found) {
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
    say(byId("spread-note"), found.values ? note : "No metric in this time range.");
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
  const time = element("time", "", clock(one.received_at));
  time.title = one.received_at;
  const reason = element("bdi", "reason", short(one.reason, 300));
  made.append(element("summary", "", time, reason, element("span", "line", short(one.line, 160))));
  made.append(element("pre", "", visible(one.line, true) + (one.cut ? "…" : "")));
  if (one.stream) made.append(element("p", "hint", `stream ${visible(one.stream)}`));
  return made;
}
