// The controls: they show what is chosen, and change it.

import { RANGES, exactly, isRange } from "./chosen.js";
import { byId, element, fill, parsed, say, short, visible, written } from "./text.js";

const MOST_KEYS = 200;

export class Controls {
  // `changed` is called after each change.
  constructor(chosen, changed) {
    this.chosen = chosen;
    this.changed = changed;
    this.keys = new Set();
    this.isTyping = false;
    this.listen();
    this.show();
  }

  listen() {
    byId("range").addEventListener("change", () => this.chooseRange());
    for (const end of ["since", "until"]) byId(end).addEventListener("change", () => this.chooseTimes());
    byId("type").addEventListener("input", () => this.set({ type: byId("type").value }));
    byId("name").addEventListener("input", () => this.typeName());
    byId("name").addEventListener("change", () => {
      if (byId("name").value.trim() !== visible(this.chosen.nameShown).trim()) this.typeName();
      this.isTyping = false;
    });
    byId("by").addEventListener("change", () => this.set({ by: byId("by").value.trim() }));
    byId("metric").addEventListener("change", () => this.set({ metric: byId("metric").value }));
    byId("add").addEventListener("submit", (event) => {
      event.preventDefault();
      this.addTyped(byId("attribute").value.trim());
    });
    byId("attribute").addEventListener("input", () => byId("attribute").setCustomValidity(""));
    byId("clear").addEventListener("click", () => {
      this.chosen.attributes.clear();
      this.set({ type: "", name: "", contains: "" });
      byId("name").focus();
    });
    addEventListener("popstate", () => {
      this.chosen.read();
      this.isTyping = false;
      this.show();
      this.changed();
    });
  }

  typeName() {
    this.chosen.typeName(byId("name").value.trim());
    this.done(!this.isTyping);
    // One step of the history for all that is typed at a time.
    this.isTyping = true;
  }

  set(values, isStep = true) {
    Object.assign(this.chosen, values);
    this.done(isStep);
  }

  done(isStep = true) {
    this.chosen.write(isStep);
    this.chosen.unread = [];
    this.show();
    this.changed();
  }

  // Show only the events of one type and name.
  choose(type, name) {
    const metric = type === "metric" ? { metric: name } : {};
    this.set({ type, name: exactly(name), contains: "", ...metric });
  }

  // Show only the events that have this value, given as JSON.
  filterBy(key, text) {
    if (key === "event_type") this.set({ type: JSON.parse(text) });
    else if (key === "event_name") this.set({ name: exactly(JSON.parse(text)), contains: "" });
    else {
      this.chosen.attributes.set(key, text);
      this.done();
    }
  }

  // As for `-a`: `KEY=VALUE` is text, `KEY:=JSON` anything else.
  addTyped(typed) {
    const field = byId("attribute");
    const at = typed.indexOf("=");
    const isTyped = typed[at - 1] === ":";
    const [key, value] = [typed.slice(0, isTyped ? at - 1 : at), typed.slice(at + 1)];
    try {
      if (at < 1) throw new TypeError("no key");
      const text = isTyped ? written(parsed(value)) : JSON.stringify(value);
      if (["event_type", "event_name"].includes(key) && !text.startsWith('"')) throw new TypeError("no text");
      field.value = "";
      this.filterBy(key, text);
    } catch {
      field.setCustomValidity("Write KEY=VALUE, such as service_name=web, or KEY:=JSON, such as status:=500.");
      field.reportValidity();
    }
  }

  chooseRange() {
    const range = document.querySelector("#range input:checked").value;
    if (range !== "custom") {
      this.set({ range, since: null, until: null });
      return;
    }
    // Whole minutes, from the range that was shown so far.
    const minute = 60_000;
    const until = Math.ceil(Date.now() / minute) * minute;
    const since = Math.floor(this.chosen.first / minute) * minute;
    this.set({ range, since, until });
    byId("since").focus();
  }

  chooseTimes() {
    const [since, until] = ["since", "until"].map((end) => {
      const text = byId(end).value;
      return text ? new Date(text).getTime() : null;
    });
    const isWrong = since === null || !isRange(since, until);
    say(byId("custom-note"), isWrong ? "The start must be before the end." : "");
    if (!isWrong) this.set({ range: "custom", since, until });
  }

  // Types and attributes to choose from; the chosen type stays, even without an event in this time range.
  offer(counts) {
    const types = new Set(counts.map((one) => one.event_type));
    for (const option of byId("type").options) if (option.value) types.add(option.value);
    if (this.chosen.type) types.add(this.chosen.type);
    fill(byId("type"), [["", "all types"], ...[...types].sort().map((type) => [type, short(type, 60)])]);
    byId("type").value = this.chosen.type;
  }

  // The attributes that events have, for the two fields that name one.
  know(keys) {
    const before = this.keys.size;
    for (const key of keys) if (this.keys.size < MOST_KEYS && !this.keys.has(key)) this.keys.add(key);
    if (this.keys.size === before) return;
    const sorted = [...this.keys].sort();
    byId("keys").replaceChildren(...["event_name", "event_type", ...sorted].map((key) => option(key)));
    byId("pairs").replaceChildren(...sorted.map((key) => option(`${key}=`)));
  }

  show() {
    const { chosen } = this;
    document.querySelector(`#range input[value="${chosen.range}"]`).checked = true;
    byId("custom").hidden = chosen.range !== "custom";
    for (const end of ["since", "until"]) setValue(byId(end), chosen.range in RANGES ? "" : local(chosen[end]));
    if (byId("name") !== document.activeElement || !this.isTyping) setValue(byId("name"), visible(chosen.nameShown));
    setValue(byId("by"), chosen.by);
    this.offer([]);
    byId("clear").hidden = !chosen.isFiltered;
    this.showFilters();
    say(byId("custom-note"), "");
    say(byId("unread"), chosen.unread.length ? `Not understood in the address, and left out: ${chosen.unread.join(", ")}.` : "");
  }

  showFilters() {
    byId("chips").replaceChildren(...[...this.chosen.attributes].map(([key, text]) => {
      const shown = `${short(key, 60)}=${short(text.startsWith('"') ? JSON.parse(text) : text, 60)}`;
      const button = element("button", "chip", element("bdi", "", shown), element("span", "", " ×"));
      button.type = "button";
      button.title = "remove this filter";
      button.addEventListener("click", () => {
        this.chosen.attributes.delete(key);
        this.done();
        byId("attribute").focus();
      });
      return button;
    }));
  }
}

function option(value) {
  const made = document.createElement("option");
  made.value = value;
  return made;
}

// Set only if it differs: setting moves the cursor of somebody who types.
function setValue(field, text) {
  if (field.value !== text) field.value = text;
}

// A time as a field for local times has it.
function local(time) {
  if (time === null) return "";
  const moved = new Date(time - new Date(time).getTimezoneOffset() * 60_000);
  return moved.toISOString().slice(0, 16);
}
