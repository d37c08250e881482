// The list of events, live, the newest on top. Rows are added and never rebuilt, so that an opened row stays open.

import { save } from "./csv.js";
import { byId, count, element, kindOf, parsed, say, short, timeOf, visible, written } from "./text.js";

const SHOWN = 200;
const ASKED = 100;
const ATTRIBUTES = 12;
const OFFERED = 24;
const LONGEST = 200;
const ENVELOPE = ["event_id", "event_time", "event_type", "event_name"];

export class Live {
  // `ask` requests from the server; `controls` know what is chosen, and filter by what is clicked.
  constructor(ask, controls) {
    this.ask = ask;
    this.controls = controls;
    this.chosen = controls.chosen;
    this.list = byId("list");
    this.cursor = "";
    this.paused = false;
    this.round = 0;
    byId("pause").addEventListener("click", () => this.pause(!this.paused));
    byId("events-csv").addEventListener("click", () => this.save());
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
    const found = await this.ask("/api/events", { ...this.chosen.filter, ...this.chosen.listTimes, after: this.cursor, limit: ASKED }, parsed);
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
    const rows = events.map((event) => this.row(event, !isNew)).reverse();
    for (const event of events) this.controls.know(Object.keys(event).filter((key) => !ENVELOPE.includes(key)));
    const before = this.list.scrollHeight;
    const isAtTop = this.list.scrollTop < 4;
    if (isNew) this.list.replaceChildren(...rows);
    else if (rows.length) this.list.prepend(...rows);
    // A reader further down keeps seeing the same line.
    if (!isNew && !isAtTop) this.list.scrollTop += this.list.scrollHeight - before;
    while (this.list.childElementCount > SHOWN) this.list.lastElementChild.remove();
    this.leaveOut();
    byId("none").hidden = this.list.childElementCount > 0;
  }

  // Events that are older than the range by now.
  leaveOut() {
    const { first } = this.chosen;
    for (const made of [...this.list.children]) if (made.at < first) made.remove();
  }

  row(event, isFresh) {
    const made = element("details", isFresh ? "event fresh" : "event");
    made.at = Date.parse(event.event_time);
    made.event = event;
    const kind = kindOf(event.event_type);
    const name = element("span", `name kind-${kind}`, element("bdi", "", short(event.event_name, 120)));
    name.title = `show only ${short(event.event_type, 120)} ${short(event.event_name, 120)}`;
    // With the keyboard the same is in the opened row: two hundred rows must not have two hundred further stops.
    name.addEventListener("click", (click) => {
      click.preventDefault();
      this.controls.choose(event.event_type, event.event_name);
    });
    const type = element("span", "unseen", short(event.event_type, 40));
    made.append(element("summary", "", timeOf(event.event_time), type, name, attributes(event)));
    // Built when opened: each of two hundred rows may hold 32 KiB.
    made.addEventListener("toggle", () => {
      if (made.open && made.childElementCount === 1) {
        made.append(this.offers(event), element("pre", "", visible(written(event, "  "), true)));
      }
    });
    return made;
  }

  // The values of an event, each to filter by.
  offers(event) {
    const plain = Object.entries(event).filter(([key, value]) => !["event_id", "event_time"].includes(key) && written(value).length <= LONGEST);
    const buttons = plain.slice(0, OFFERED).map(([key, value]) => {
      const text = typeof value === "string" ? value : written(value);
      const button = element("button", "offer", element("bdi", "", `${short(key, 40)}=${short(text, 60)}`));
      button.type = "button";
      button.title = "show only events with this value";
      button.addEventListener("click", () => this.controls.filterBy(key, written(value)));
      return button;
    });
    return element("p", "offers", element("span", "hint", "only "), ...buttons);
  }

  // The events of the list, with a column for each attribute.
  save() {
    const events = [...this.list.children].map((made) => made.event);
    const keys = new Set(events.flatMap((event) => Object.keys(event)).filter((key) => !ENVELOPE.includes(key)));
    const columns = [...ENVELOPE, ...keys];
    const rows = events.map((event) => columns.map((key) => (Object.hasOwn(event, key) ? plain(event[key]) : "")));
    save("rillevents-events.csv", [columns, ...rows]);
  }
}

// A value for a cell: text and numbers as they are, anything else as JSON.
const plain = (value) => (typeof value === "string" || typeof value === "number" ? value : written(value));

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
