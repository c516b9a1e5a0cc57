// What an episode recorded at one step: numbers in tables, one curve over the whole episode.
//
// Steps come in blocks and are kept; the page's player, where there is one, says which step it
// shows, and is told when somebody chooses one here.

import { figure, pathOf, rangeOf } from "./curve.js";
import { fill, gettext, said } from "./language.js";

const CONTROL = { policy: gettext("policy"), human: gettext("operator"), transition: gettext("handover"), none: gettext("nobody") };

class Inspector {
  constructor(root) {
    this.root = root;
    this.total = Number(root.dataset.total);
    this.blocks = new Map();
    this.step = 0;
    this.names = { state: [], action: [] };
    this.find = (name) => root.querySelector(`[data-${name}]`);
    this.find("slider").addEventListener("input", (event) => this.choose(Number(event.target.value)));
    this.find("curve").addEventListener("change", () => this.draw());
    for (const button of root.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => this.choose(this.step + Number(button.dataset.move)));
    }
    for (const button of document.querySelectorAll("button[data-step]")) {
      button.addEventListener("click", () => this.choose(Number(button.dataset.step)));
    }
    document.addEventListener("keydown", (event) => this.key(event));
    this.find("plot").addEventListener("click", (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      this.choose(Math.round(((event.clientX - box.left) / box.width) * (this.total - 1)));
    });
    this.follow(document.querySelector("[data-replay]"));
    this.loadCurves();
    this.show(0);
  }

  /** Go where the page's player goes, and send it where somebody goes here. */
  follow(player) {
    this.player = player;
    if (!player) return;
    this.find("stepper").hidden = true;
    new MutationObserver(() => this.show(Number(player.dataset.step))).observe(player, {
      attributeFilter: ["data-step"],
    });
  }

  key(event) {
    if (this.player || !event.shiftKey || event.ctrlKey || event.metaKey || event.altKey) return;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move || event.target.closest("input:not([type=range]), select, textarea")) return;
    event.preventDefault();
    this.choose(this.step + move);
  }

  /** Go to a step because a person chose it here. */
  choose(step) {
    this.show(step);
    const scrub = this.player?.querySelector("[data-replay-scrub]");
    if (!scrub) return;
    scrub.value = String(this.step);
    scrub.dispatchEvent(new Event("input"));
  }

  /** Show a step. @param {number} step */
  async show(step) {
    this.step = Math.min(Math.max(0, step), Math.max(0, this.total - 1));
    this.find("slider").value = String(this.step);
    const x = (600 * this.step) / Math.max(1, this.total - 1);
    this.find("now").setAttribute("x1", String(x));
    this.find("now").setAttribute("x2", String(x));
    const wanted = this.step;
    const row = await this.row(wanted);
    // A slow answer for a step that nobody looks at any more changes nothing.
    if (row && wanted === this.step) this.write(row);
  }

  async row(step) {
    const size = 200;
    const first = step - (step % size);
    if (!this.blocks.has(first)) this.blocks.set(first, this.ask(`${this.root.dataset.steps}?first=${first}`));
    const block = await this.blocks.get(first);
    if (!block) {
      this.blocks.delete(first);
      return null;
    }
    this.names = { state: block.state_names, action: block.action_names };
    return block.steps.find((one) => one.step === step) ?? null;
  }

  async ask(address) {
    try {
      const answer = await fetch(address, { headers: { Accept: "application/json" } });
      const body = await answer.json();
      if (!answer.ok) throw new Error(body.reason);
      this.say("");
      return body;
    } catch (error) {
      this.say(fill(gettext("The steps could not be read: %(problem)s. Choose a step to try again."), { problem: said(error.message) }));
      return null;
    }
  }

  say(words) {
    this.find("said").textContent = words;
    this.find("said").hidden = words === "";
  }

  write(row) {
    const facts = [
      [gettext("Step"), fill(gettext("%(n)s of %(total)s"), { n: row.step, total: this.total })],
      [gettext("Time"), `${row.t_s.toFixed(2)} s`],
      [gettext("In control"), `${CONTROL[row.control] ?? row.control} (${said(row.controller)})`],
      [gettext("Policy"), row.policy_number < 0 ? gettext("none") : `v${row.policy_number}`],
      [gettext("Doubt"), figure(row.doubt)],
      ...(row.value === undefined ? [] : [[gettext("Value at the time"), figure(row.value)]]),
      [gettext("Reward"), figure(row.reward)],
      [gettext("Lease epoch"), row.lease_epoch || gettext("nobody held it")],
      [gettext("Age of the command"), row.command_age_ms === null ? "—" : `${row.command_age_ms.toFixed(0)} ms`],
      [gettext("Place in its chunk"), row.chunk_index < 0 ? "—" : row.chunk_index],
      [gettext("Just before a takeover"), row.before_takeover ? gettext("yes: the policy's mistake") : gettext("no")],
    ];
    this.find("facts").replaceChildren(...facts.map(([name, value]) => pair(name, value)));
    this.find("actions").replaceChildren(
      ...this.names.action.map((name, i) =>
        line(name, figure(row.action[i]), figure(row.policy_action[i]), figure(row.operator_action[i])),
      ),
    );
    this.find("states").replaceChildren(...this.names.state.map((name, i) => line(name, figure(row.state[i]))));
  }

  async loadCurves() {
    const found = await this.ask(this.root.dataset.curves);
    if (!found) return;
    this.curves = found;
    this.find("curve").replaceChildren(...found.curves.map((curve) => new Option(said(curve.name), curve.name)));
    this.draw();
  }

  draw() {
    const curve = this.curves?.curves.find((one) => one.name === this.find("curve").value);
    if (!curve) return;
    const range = rangeOf(curve.values, curve.proposed ?? []);
    const path = (values) => pathOf(values, this.curves.steps, this.total, range);
    this.find("line").setAttribute("d", path(curve.values));
    this.find("proposed").setAttribute("d", curve.proposed ? path(curve.proposed) : "");
    this.find("legend").hidden = !curve.proposed;
    this.find("range").textContent = fill(gettext("%(name)s: %(low)s to %(high)s"), { name: said(curve.name), low: figure(range[0]), high: figure(range[1]) });
  }
}

function cell(tag, text) {
  const element = document.createElement(tag);
  element.textContent = String(text);
  return element;
}

function pair(name, value) {
  const element = document.createElement("div");
  element.append(cell("dt", name), cell("dd", value));
  return element;
}

function line(name, ...figures) {
  const row = document.createElement("tr");
  row.append(cell("td", name), ...figures.map((text) => cell("td", text)));
  for (const element of [...row.children].slice(1)) element.className = "n";
  return row;
}

const root = globalThis.document?.querySelector("[data-inspect]");
export const inspector = root ? new Inspector(root) : null;
