// Charts: SVG that is put together element by element, in units of bars; CSS gives it size and colour.

import { count } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const GAP = 0.14;
const FULL = 100;

function shape(tag, className, attributes) {
  const made = document.createElementNS(SVG, tag);
  made.setAttribute("class", className);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function bar(className, at, from, height, gap = GAP) {
  // Never too thin to see: one event must look different from none.
  const tall = Math.max(height, 0.8);
  return shape("rect", className, { x: at + gap / 2, width: 1 - gap, y: FULL - from - tall, height: tall });
}

// Draw series above each other: for each its colour and its number of events in each bucket.
export function drawStack(svg, series, buckets, marked) {
  const totals = Array.from({ length: buckets }, (_, at) => series.reduce((sum, one) => sum + one.buckets[at], 0));
  const most = Math.max(1, ...totals);
  const bars = [];
  for (let at = 0; at < buckets; at += 1) {
    let from = 0;
    for (const one of series) {
      const height = (one.buckets[at] / most) * FULL;
      if (height) bars.push(bar(one.colour, at, from, height));
      from += height;
    }
  }
  if (marked !== null) bars.unshift(shape("rect", "marked", { x: marked, width: 1, y: 0, height: FULL }));
  svg.setAttribute("viewBox", `0 0 ${buckets} ${FULL}`);
  svg.setAttribute("aria-label", `${count(totals.reduce((a, b) => a + b, 0))} events in ${buckets} parts; at most ${count(most)} in one. Use the arrow keys to step through them.`);
  svg.replaceChildren(...bars);
  return Math.max(...totals);
}

export function drawSpark(svg, colour, values) {
  const most = Math.max(1, ...values);
  svg.setAttribute("viewBox", `0 0 ${values.length} ${FULL}`);
  svg.replaceChildren(...values.flatMap((n, at) => (n ? [bar(colour, at, 0, (n / most) * FULL)] : [])));
}

// The position of a value among the bars, on either scale.
function place(bars, value) {
  const at = bars.findIndex((one) => value <= one.to);
  const one = bars[at];
  return one.to > one.from ? at + (value - one.from) / (one.to - one.from) : at + 0.5;
}

export function drawHistogram(svg, spread, percentiles) {
  const bars = spread.histogram;
  const most = Math.max(1, ...bars.map((one) => one.count));
  const drawn = bars.flatMap((one, at) => (one.count ? [bar("kind-metric", at, 0, (one.count / most) * FULL * 0.97, 0.08)] : []));
  if (bars.length) {
    for (const name of percentiles) {
      const x = place(bars, spread[name]);
      drawn.push(shape("line", `percentile ${name}`, { x1: x, x2: x, y1: 0, y2: FULL, "vector-effect": "non-scaling-stroke" }));
    }
  }
  svg.setAttribute("viewBox", `0 0 ${Math.max(1, bars.length)} ${FULL}`);
  svg.replaceChildren(...drawn);
}
