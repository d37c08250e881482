// What the chart and the tables tell apart: the types, or the values of the attribute that was chosen.

import { KINDS, kindOf, short, written } from "./text.js";

// So many groups have a colour of their own in the chart.
const COLOURS = 6;

// The value of a group as text: a missing one as `stats` shows it, and what is no text as JSON.
export function label(value) {
  if (value === null) return "-";
  return short(typeof value === "string" ? value : written(value), 120);
}

// The series of the chart, from below: for each its colour, its label and the number of events in each bucket.
export function series(stats, buckets) {
  return stats.groups ? byGroup(stats, buckets) : byKind(stats.types, buckets);
}

function byKind(types, buckets) {
  const found = Object.fromEntries(KINDS.map((kind) => [kind, new Array(buckets).fill(0)]));
  for (const one of types) one.buckets.forEach((n, at) => { found[kindOf(one.event_type)][at] += n; });
  return KINDS.map((kind) => ({ colour: `kind-${kind}`, label: kind, buckets: found[kind] }));
}

function byGroup(stats, buckets) {
  const made = stats.groups.slice(0, COLOURS).map((one, at) => ({ colour: `group-${at}`, label: label(one.value), buckets: one.buckets }));
  const rest = stats.groups.slice(COLOURS);
  if (rest.length) {
    const sums = new Array(buckets).fill(0);
    for (const one of rest) one.buckets.forEach((n, at) => { sums[at] += n; });
    made.push({ colour: "group-others", label: stats.group_count > stats.groups.length ? `the next ${rest.length}` : "others", buckets: sums });
  }
  return made;
}

export const colourOf = (at) => (at < COLOURS ? `group-${at}` : "group-others");
