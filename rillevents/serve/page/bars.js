// The bars of a range: which times they have, and the server's buckets put together where their lengths differ.

const MINUTE_MS = 60_000;
const MOST_BARS = 60;
const FEWEST_BARS = 20;
// The server makes no more buckets.
const MOST_BUCKETS = 1500;

// So many days that end at the next midnight of the local zone, each in equal parts by its clock. Where clocks change the parts
// differ in length: the server is asked for shorter ones, and `sizes` tells how many of them each bar has.
export function dayBars(days, parts, now = Date.now()) {
  const end = new Date(now);
  end.setHours(24, 0, 0, 0);
  const edges = Array.from({ length: days * parts + 1 }, (_, at) =>
    new Date(end.getFullYear(), end.getMonth(), end.getDate() - days + Math.floor(at / parts), (at % parts) * (24 / parts)).getTime());
  // A day that the zone leaves out has no bar.
  for (let at = edges.length - 2; at >= 0; at -= 1) if (edges[at] >= edges[at + 1]) edges.splice(at, 1);
  const lengths = edges.slice(1).map((edge, at) => edge - edges[at]);
  const unit = lengths.reduce(greatestDivisor);
  const all = edges.at(-1) - edges[0];
  const isPlain = lengths.every((length) => length === unit) || all / unit > MOST_BUCKETS;
  const asked = isPlain ? { buckets: lengths.length } : { buckets: all / unit, sizes: lengths.map((length) => length / unit) };
  return { since: iso(edges[0]), until: iso(edges.at(-1)), ...asked };
}

// So many bars that each has whole minutes, or else whole seconds.
export function equalBars(since, until) {
  const [minutes, seconds] = [(until - since) / MINUTE_MS, (until - since) / 1000];
  const fits = (length, fewest) => {
    for (let n = MOST_BARS; n >= fewest; n -= 1) if (length % n === 0) return n;
    return 0;
  };
  const buckets = fits(minutes, FEWEST_BARS) || fits(seconds, Math.min(FEWEST_BARS, seconds)) || MOST_BARS;
  return { since: iso(since), until: iso(until), buckets };
}

// What the server counted, with a number for each bar, and the time at which each begins as `starts`.
export function inBars(found, { buckets, sizes = new Array(buckets).fill(1) }) {
  const begin = Date.parse(found.since);
  const length = Date.parse(found.until) - begin;
  const starts = [];
  let before = 0;
  for (const size of sizes) {
    starts.push(iso(begin + (before * length) / buckets));
    before += size;
  }
  const merged = (one) => (one.buckets ? { ...one, buckets: together(one.buckets, sizes) } : one);
  const parts = ["counts", "types", "groups"].filter((key) => found[key]).map((key) => [key, found[key].map(merged)]);
  // Where they differ, the usual one.
  const usual = [...sizes].sort((a, b) => a - b)[Math.floor(sizes.length / 2)];
  return { ...merged(found), ...Object.fromEntries(parts), starts, bar_seconds: (usual * length) / buckets / 1000 };
}

function together(counts, sizes) {
  let at = 0;
  return sizes.map((size) => counts.slice(at, (at += size)).reduce((sum, n) => sum + n, 0));
}

const greatestDivisor = (a, b) => (b ? greatestDivisor(b, a % b) : a);

const iso = (time) => new Date(time).toISOString();
