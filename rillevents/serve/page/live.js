// The list of events, live, the newest on top. Rows are added and never rebuilt, so that an opened row stays open.

import { byId, clock, count, element, fill, kindOf, parsed, say, short, visible, written } from "./text.js";

const SHOWN = 200;
const ASKED = 100;
const ATTRIBUTES = 12;
const ENVELOPE = ["event_id", "event_time", "event_type", "event_name"];
const SIGNS = /[*?[]/g;

export const exactly = (name) => name.replace(SIGNS, "[$&]");

export class Live {
  constructor(ask) {
    this.ask = ask;
    this.list = byId("list");
    this.cursor = "";
    this.paused = false;
    this.known = new Set();
    this.round = 0;
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
  }

  get filter() {
    const name = byId("name").value.trim();
    const isPattern = name.search(SIGNS) >= 0;
    const pattern = isPattern || !name || this.known.has(name) ? name : `*${name}*`;
    return { type: byId("type").value, name: this.exact && this.exact.shown === name ? this.exact.pattern : pattern };
  }

  get isFiltered() {
    return Boolean(byId("type").value || byId("name").value.trim());
  }

  // Show only the events of one name.
  choose(type, name) {
    byId("name").value = visible(name);
    this.exact = { shown: byId("name").value.trim(), pattern: exactly(name) };
    const offered = [...byId("type").options].some((option) => option.value === type);
    byId("type").value = offered ? type : "";
    this.restart();
  }

  // The known types; the chosen one stays, even without an event in this time range.
  offer(counts) {
    this.known = new Set(counts.map((one) => one.event_name));
    const types = new Set(counts.map((one) => one.event_type));
    if (byId("type").value) types.add(byId("type").value);
    fill(byId("type"), [["", "all types"], ...[...types].sort().map((type) => [type, short(type, 60)])]);
  }

  restart() {
    this.cursor = "";
    this.round += 1;
  }

  pause(paused) {
    this.paused = paused;
    byId("pause").setAttribute("aria-pressed", String(paused));
    say(byId("pause"), paused ? "Resume" : "Pause");
    say(byId("live-note"), paused ? "paused" : "");
  }

  async poll() {
    if (this.paused && this.cursor) return;
    const round = this.round;
    const found = await this.ask("/api/events", { ...this.filter, after: this.cursor, limit: ASKED }, parsed);
    // The filter has changed since this was requested.
    if (round !== this.round) return;
    const isNew = !this.cursor || found.reset;
    if (!isNew && !found.complete) {
      // More events than a list can follow: continue with the newest.
      this.restart();
      await this.poll();
      return;
    }
    this.show(found.events, isNew);
    this.cursor = found.cursor;
  }

  show(events, isNew) {
    const rows = events.map((event) => row(event, !isNew)).reverse();
    const before = this.list.scrollHeight;
    const isAtTop = this.list.scrollTop < 4;
    if (isNew) this.list.replaceChildren(...rows);
    else if (rows.length) this.list.prepend(...rows);
    // A reader further down keeps seeing the same line.
    if (!isNew && !isAtTop) this.list.scrollTop += this.list.scrollHeight - before;
    while (this.list.childElementCount > SHOWN) this.list.lastElementChild.remove();
    byId("none").hidden = this.list.childElementCount > 0;
  }
}

function row(event, isFresh) {
  const made = element("details", isFresh ? "event fresh" : "event");
  const kind = kindOf(event.event_type);
  const time = element("time", "", clock(event.event_time));
  time.title = short(event.event_time, 60);
  const name = element("span", `name kind-${kind}`, element("bdi", "", short(event.event_name, 120)));
  name.title = short(event.event_type, 120);
  const type = element("span", "unseen", short(event.event_type, 40));
  made.append(element("summary", "", time, type, name, attributes(event)));
  // Built when opened: each of two hundred rows may hold 32 KiB.
  made.addEventListener("toggle", () => {
    if (made.open && made.childElementCount === 1) made.append(element("pre", "", visible(written(event, "  "), true)));
  });
  return made;
}

function attributes(event) {
  const isMetric = event.event_type === "metric";
  const told = Object.entries(event).filter(([key]) => !ENVELOPE.includes(key) && !(isMetric && (key === "name" || key === "time")));
  const first = isMetric ? "value" : "message";
  told.sort(([a], [b]) => rank(a, first) - rank(b, first));
  const made = element("span", "attributes");
  for (const [key, value] of told.slice(0, ATTRIBUTES)) {
    const text = typeof value === "string" ? value : written(value);
    made.append(element("span", "key", `${short(key, 40)}=`), element("bdi", key === first ? "first" : "", short(text, 120)), " ");
  }
  if (told.length > ATTRIBUTES) made.append(element("span", "key", `and ${count(told.length - ATTRIBUTES)} more`));
  return made;
}

function rank(key, first) {
  if (key === first) return 0;
  return key === "install_id" ? 2 : 1;
}
