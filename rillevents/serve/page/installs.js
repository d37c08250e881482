// The installs of the range: how many, how many of them new, and how often one event leads to another.

import { inBars } from "./bars.js";
import { save } from "./csv.js";
import { drawSpark } from "./draw.js";
import { byId, count, element, fill, moment, number, say, short } from "./text.js";

const WITHIN = ["1m", "10m", "1h", "1d", "7d"];
const MOST_NAMES = 200;

export class Installs {
  // `ask` requests from the server; `controls` change what is chosen.
  constructor(ask, controls) {
    this.ask = ask;
    this.controls = controls;
    this.chosen = controls.chosen;
    this.found = null;
    this.names = new Set();
    for (const end of ["start", "goal"]) {
      byId(end).addEventListener("change", () => controls.set({ [end]: byId(end).value.trim() }));
    }
    byId("within").addEventListener("change", () => controls.set({ within: byId("within").value }));
    byId("installs-csv").addEventListener("click", () => this.save());
  }

  // Ask for everything, and show it if nothing else was chosen meanwhile; `isNow` tells that.
  async refresh(stats, isNow) {
    this.offer(stats.counts);
    const { chosen } = this;
    const given = { since: stats.since, until: stats.until, attributes: chosen.attributesText };
    const { buckets, sizes } = chosen.times;
    const found = await this.ask("/api/installs", { ...given, buckets });
    if (!isNow()) return;
    this.show(inBars(found, { buckets, sizes }));
    const { start, goal, within } = chosen;
    const reach = start && goal ? await this.ask("/api/reach", { ...given, start, goal, within }) : null;
    if (isNow()) this.showReach(reach);
  }

  show(found) {
    this.found = found;
    const n = found.buckets.length;
    say(byId("installs"), count(found.installs));
    say(byId("new-installs"), count(found.new));
    drawSpark(byId("firsts"), "kind-behavioral", found.buckets);
    byId("firsts").setAttribute("aria-label", `${count(found.new)} new installs in ${n} parts; at most ${count(Math.max(...found.buckets))} in one`);
    const [begin, end] = [Date.parse(found.since), Date.parse(found.until)];
    for (const [where, at] of [["begin", begin], ["end", end]]) say(byId(`firsts-${where}`), moment(new Date(at).toISOString(), end - begin));
    say(byId("installs-note"), found.complete ? "" : "Too many events: only the newest were read, so an install can count as new that is not.");
  }

  showReach(reach) {
    const { start, goal, within } = this.chosen;
    if (!reach) {
      say(byId("reach"), "Choose two names to see how often one leads to the other.");
      return;
    }
    const share = reach.started ? ` (${number((100 * reach.reached) / reach.started, 3)} %)` : "";
    const left = reach.complete ? "" : " Only the newest events were read.";
    say(byId("reach"), `${count(reach.reached)} of ${count(reach.started)}${share} ${short(start, 60)} reach ${short(goal, 60)} within ${within}.${left}`);
  }

  // Names to choose from, of all that were seen so far.
  offer(counts) {
    const before = this.names.size;
    for (const one of counts) if (this.names.size < MOST_NAMES) this.names.add(one.event_name);
    if (this.names.size === before) return;
    byId("every-name").replaceChildren(...[...this.names].sort().map((name) => {
      const made = element("option");
      made.value = name;
      return made;
    }));
  }

  // Let the controls show what is chosen.
  showChosen() {
    const { chosen } = this;
    for (const end of ["start", "goal"]) if (byId(end).value !== chosen[end]) byId(end).value = chosen[end];
    fill(byId("within"), [...new Set([...WITHIN, chosen.within])].map((text) => [text, text]));
    byId("within").value = chosen.within;
  }

  save() {
    if (!this.found) return;
    const { starts, buckets } = this.found;
    const rows = buckets.map((n, at) => [starts[at], n]);
    save("rillevents-installs.csv", [["from", "new_installs"], ...rows]);
  }
}
