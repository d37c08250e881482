// Text and elements. Event data gets into the page only through textContent, and invisible characters are made visible.

const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0]/gu;
// Joiners are part of words and emoji.
const JOINERS = "\u200c\u200d";
const NUMBERS = [3, 4].map((digits) => new Intl.NumberFormat("en", { maximumSignificantDigits: digits }));
const SHORT_NUMBERS = new Intl.NumberFormat("en", { maximumSignificantDigits: 3, notation: "compact" });
const COUNTS = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });
const DAY_MS = 86_400_000;

// An element with a class and content: strings become text, never markup.
export function element(tag, className = "", ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

export const byId = (id) => document.getElementById(id);

// Setting the same text again would make a screen reader say it again.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// The options of a select list, as value and text; the chosen one stays chosen if it still exists.
export function fill(select, options) {
  const now = [...select.options].map((option) => option.value);
  if (JSON.stringify(now) === JSON.stringify(options.map(([value]) => value))) return;
  const chosen = select.value;
  select.replaceChildren(...options.map(([value, text]) => {
    const option = element("option", "", text);
    option.value = value;
    return option;
  }));
  select.value = chosen;
}

// Control characters and direction marks, shown as escapes.
export function visible(text, keepsLines = false) {
  return text.replace(UNSEEN, (sign) => {
    if (JOINERS.includes(sign) || (keepsLines && sign === "\n")) return sign;
    return `\\u{${sign.codePointAt(0).toString(16)}}`;
  });
}

export function short(text, most) {
  return visible(text.length > most ? `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…` : text);
}

export const count = (n) => COUNTS.format(n);

export function number(value, digits = 4) {
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e15 || size < 1e-4)) return value.toExponential(2).replace(/\.?0*e\+?/, "e");
  return size >= 1e6 ? SHORT_NUMBERS.format(value) : NUMBERS[digits - 3].format(value);
}

export function clock(text) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return short(text, 20);
  if (Math.abs(Date.now() - time.getTime()) < DAY_MS / 2) return CLOCK.format(time);
  return dayOf(time).format(time);
}

// A time as people see it, marked if it is of another day; the whole one is its title.
export function timeOf(text) {
  const shown = clock(text);
  const made = element("time", shown.length > "23:59:59".length ? "dated" : "", shown);
  made.title = short(text, 60);
  return made;
}

export function moment(text, range) {
  const time = new Date(text);
  return (range > DAY_MS ? dayOf(time) : MINUTE).format(time);
}

// The year is told where it is not this one.
const dayOf = (time) => (time.getFullYear() === new Date().getFullYear() ? DAY : YEAR);

// The zone of all times that are shown, with its distance from UTC now.
export function zone() {
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "longOffset" }).formatToParts(new Date());
  const offset = parts.find((part) => part.type === "timeZoneName").value.replace("GMT", "UTC");
  const name = new Intl.DateTimeFormat().resolvedOptions().timeZone;
  return name === "UTC" || name === offset ? "UTC" : `${name} (${offset})`;
}

// A number that JavaScript cannot represent exactly as written.
class Exact {
  constructor(source) { this.source = source; }
}

export function parsed(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && context?.source && String(value) !== context.source ? new Exact(context.source) : value);
}

// An answer with groups, whose values keep their numbers as they were written.
export function grouped(text) {
  const found = JSON.parse(text);
  if (found.groups) parsed(text).groups.forEach((one, at) => { found.groups[at].value = one.value; });
  return found;
}

// A value as JSON, with its numbers as they were written.
export function written(value, indent = null, depth = 0) {
  if (value instanceof Exact) return value.source;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((item) => written(item, indent, depth + 1))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}:${indent === null ? "" : " "}${written(item, indent, depth + 1)}`);
  const [open, close] = isList ? "[]" : "{}";
  if (indent === null || parts.length === 0) return open + parts.join(",") + close;
  const line = `\n${indent.repeat(depth + 1)}`;
  return `${open}${line}${parts.join(`,${line}`)}\n${indent.repeat(depth)}${close}`;
}

const KNOWN = ["behavioral", "metric", "log"];
export const KINDS = [...KNOWN, "other"];
export const kindOf = (type) => (KNOWN.includes(type) ? type : "other");
