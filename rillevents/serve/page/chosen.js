// What is chosen on the page: the range, the filters, the breakdown and the metric. All of it stands in the address.

import { dayBars, equalBars } from "./bars.js";
import { parsed, written } from "./text.js";

// For each range its length and the number of bars, of days that of a day's.
export const RANGES = {
  "15m": { ms: 900_000, bars: 60 },
  "1h": { ms: 3_600_000, bars: 60 },
  "24h": { ms: 86_400_000, bars: 48 },
  "7d": { days: 7, bars: 8 },
  "30d": { days: 30, bars: 1 },
};
const USUAL = "1h";
const USUAL_WITHIN = "10m";
const MINUTE_MS = 60_000;
// The years that a time in an event can have.
const [FIRST, END] = [Date.parse("0000-01-01T00:00:00Z"), Date.parse("+010000-01-01T00:00:00Z")];
const SIGNS = /[*?[]/g;

export const exactly = (name) => name.replace(SIGNS, "[$&]");

// Whether two times, the second of which can be missing for now, are a range; so is none at all.
export function isRange(since, until) {
  if (since === null) return until === null;
  return since >= FIRST && since < (until ?? Date.now()) && (until ?? since) < END;
}

export class Chosen {
  constructor() {
    this.read();
  }

  // Take everything from the address; what cannot be read there is left out, and named in `unread`.
  read() {
    const given = new URLSearchParams(location.search);
    this.unread = [];
    const text = (key) => given.get(key) ?? "";
    this.since = this.time(given, "since");
    this.until = this.time(given, "until");
    if (!isRange(this.since, this.until)) {
      this.unread.push(...["since", "until"].filter((key) => this[key] !== null));
      this.since = this.until = null;
    }
    this.range = this.since === null ? text("range") || USUAL : "custom";
    if (this.since === null && !(this.range in RANGES)) {
      this.unread.push("range");
      this.range = USUAL;
    }
    [this.type, this.name, this.contains, this.by, this.metric] = ["type", "name", "contains", "by", "metric"].map(text);
    [this.start, this.goal, this.within] = ["start", "goal", "within"].map(text);
    if (this.within && !/^\d{1,9}(\.\d{1,9})?[smhdw]?$/.test(this.within)) {
      this.unread.push("within");
      this.within = "";
    }
    this.within ||= USUAL_WITHIN;
    // The values as JSON, with their numbers as they were written.
    this.attributes = new Map();
    try {
      const found = parsed(text("attributes") || "{}");
      if (found === null || typeof found !== "object" || Array.isArray(found)) throw new TypeError("no object");
      for (const [key, value] of Object.entries(found)) this.attributes.set(key, written(value));
    } catch {
      this.unread.push("attributes");
    }
  }

  time(given, key) {
    const text = given.get(key);
    if (!text) return null;
    const found = Date.parse(text);
    const isRead = found >= FIRST && found < END;
    if (!isRead) this.unread.push(key);
    return isRead ? found : null;
  }

  // Write everything into the address, as a new step of the history, or instead of the last one.
  write(isStep = true) {
    const iso = (time) => (time === null ? "" : new Date(time).toISOString().replace(".000Z", "Z"));
    const isCustom = this.range === "custom";
    const all = {
      range: isCustom || this.range === USUAL ? "" : this.range,
      since: isCustom ? iso(this.since) : "",
      until: isCustom ? iso(this.until) : "",
      type: this.type,
      name: this.name,
      contains: this.contains,
      attributes: this.attributesText,
      by: this.by,
      metric: this.metric,
      start: this.start,
      goal: this.goal,
      within: this.within === USUAL_WITHIN ? "" : this.within,
    };
    const given = new URLSearchParams(Object.entries(all).filter(([, value]) => value !== ""));
    const address = given.size ? `/?${given}` : "/";
    if (address === location.pathname + location.search) return;
    history[isStep ? "pushState" : "replaceState"](null, "", address);
  }

  get attributesText() {
    if (!this.attributes.size) return "";
    return `{${[...this.attributes].map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(",")}}`;
  }

  get isFiltered() {
    return Boolean(this.type || this.name || this.contains || this.attributes.size);
  }

  // Which events, as the server is asked.
  get filter() {
    return { type: this.type, name: this.contains ? `*${this.contains}*` : this.name, attributes: this.attributesText };
  }

  // The name as it is shown: an exact one without the brackets that its pattern needs.
  get nameShown() {
    const plain = this.name.replace(/\[([*?[])\]/g, "$1");
    return this.contains || (exactly(plain) === this.name ? plain : this.name);
  }

  // What was typed as a name: a pattern if it has a sign of one, else a part.
  typeName(text) {
    const isPattern = text.search(SIGNS) >= 0;
    [this.name, this.contains] = isPattern ? [text, ""] : ["", text];
  }

  // The range as times, and the server's buckets: with both ends where the bars are parts of days, or the times were given.
  get times() {
    const range = RANGES[this.range];
    if (range) return range.days ? dayBars(range.days, range.bars) : { since: this.range, until: "", buckets: range.bars };
    return equalBars(this.since, this.until ?? Math.ceil(Date.now() / MINUTE_MS) * MINUTE_MS);
  }

  // The times of the list: without an end where the range ends now, so that a clock that is a little fast hides no event.
  get listTimes() {
    const { since, until } = this.times;
    return { since, until: this.range === "custom" && this.until !== null ? until : "" };
  }

  // The moment before which an event is out of the range.
  get first() {
    const range = RANGES[this.range];
    return range && !range.days ? Date.now() - range.ms : Date.parse(this.times.since);
  }
}
