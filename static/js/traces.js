// State, actions, doubt and value of the running episode as lines over its ticks. What is drawn is
// pure.
import { extent } from "./curve.js";
import { noDoubt, noValue, valueNote } from "./estimates.js";
import { fill, gettext } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";
// Lines of one plot: as many as there are colours that mean no state.
export const LINES = 6;
// An episode of this many ticks fills a page several times over; older ticks are let go.
const KEPT_TICKS = 6000;
// Points of one line: more than a screen has columns for.
const DRAWN = 600;
const HEIGHT = 100;
// RECAP's range, always whole: a fall looks as deep as it is.
const VALUES = [-1, 0];
const LISTS = ["ticks", "doubt", "value", "state", "action", "proposal"];
// Telemetry that misses more ticks than this leaves a gap.
const GAP_TICKS = 10;

/** The ticks of the running episode that were seen. */
export class Series {
  constructor() {
    this.begin("");
  }

  begin(episode) {
    this.episode = episode;
    for (const name of LISTS) this[name] = [];
  }

  /** @param {object} telemetry @returns {boolean} whether it was new */
  add({ episode, tick, doubt, value, state, action, policy_action }) {
    if (episode !== this.episode) this.begin(episode);
    if (!episode || tick <= (this.ticks.at(-1) ?? -1)) return false;
    this.ticks.push(tick);
    this.doubt.push(doubt ?? 0);
    // 0 is a value, the best there is: what is missing is none.
    this.value.push(value ?? undefined);
    this.state.push(state);
    this.action.push(action);
    this.proposal.push(policy_action ?? []);
    if (this.ticks.length > KEPT_TICKS) for (const name of LISTS) this[name].shift();
    return true;
  }
}

/**
 * A line as an SVG path: x in ticks, y from 100 at `low` to 0 at `high`; gaps where nothing is known.
 * @param {number[]} ticks @param {(number|undefined)[]} values @param {[number, number]} range
 * @returns {string}
 */
export function path(ticks, values, [low, high]) {
  const step = Math.max(1, Math.ceil(ticks.length / DRAWN));
  let [d, before] = ["", NaN];
  for (let i = 0; i < ticks.length; i += step) {
    if (!Number.isFinite(values[i])) {
      before = NaN;
      continue;
    }
    const y = HEIGHT * (1 - (values[i] - low) / (high - low));
    d += `${ticks[i] - before <= GAP_TICKS * step ? "L" : "M"}${ticks[i]},${Math.min(HEIGHT, Math.max(0, y)).toFixed(1)}`;
    before = ticks[i];
  }
  return d;
}

const column = (rows, i) => rows.map((row) => row[i]);

/** One plot in `box`: a legend with the present values, and a line for each name. */
class Plot {
  constructor(box, names, { dashed = false } = {}) {
    this.names = names.slice(0, LINES);
    this.legend = box.querySelector("[data-legend]");
    this.svg = box.querySelector("svg");
    const made = (tag, kind, i) => {
      const element = tag === "span" ? document.createElement(tag) : document.createElementNS(SVG, tag);
      element.setAttribute("class", `${kind} line-${i + 1}`);
      return element;
    };
    this.words = this.names.map((_, i) => made("span", "key", i));
    this.legend.replaceChildren(...this.words);
    if (names.length > LINES) this.legend.append(fill(gettext("and %(n)s more that are not drawn"), { n: names.length - LINES }));
    this.ghosts = dashed ? this.names.map((_, i) => made("path", "ghost", i)) : [];
    this.lines = this.names.map((_, i) => made("path", "", i));
    this.svg.replaceChildren(...this.ghosts, ...this.lines);
  }

  /** Show the lines with a note, or instead of them why there are none. */
  show(drawn, note, absence) {
    this.svg.toggleAttribute("hidden", !drawn);
    const said = `${drawn} ${drawn ? note : absence}`;
    if (this.said === said) return;
    this.said = said;
    this.legend.replaceChildren(...(drawn ? [...this.words, note] : [absence]));
  }

  draw(ticks, rows, { width, limits, ghosts = [], digits }) {
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const now = rows.at(-1) ?? [];
    this.names.forEach((name, i) => {
      const values = column(rows, i);
      const scale = limits(values, i);
      this.lines[i].setAttribute("d", path(ticks, values, scale));
      this.ghosts[i]?.setAttribute("d", path(ticks, column(ghosts, i), scale));
      const text = `${name} ${Number.isFinite(now[i]) ? now[i].toFixed(digits) : "—"}`;
      if (this.words[i].textContent !== text) this.words[i].textContent = text;
    });
    this.svg.setAttribute("aria-label", this.words.map((word) => word.textContent).join(", "));
  }
}

export class Traces {
  /** @param {HTMLElement} page @param {object} spec a RobotSpec */
  constructor(page, spec) {
    this.spec = spec;
    this.series = new Series();
    const box = (name) => page.querySelector(`[data-trace=${name}]`);
    this.doubt = new Plot(box("doubt"), [gettext("doubt")]);
    this.value = new Plot(box("value"), [gettext("value")]);
    this.state = new Plot(box("state"), spec.state_names);
    this.action = new Plot(box("action"), spec.action_names, { dashed: true });
  }

  /** @param {object} telemetry */
  take(telemetry) {
    this.series.add(telemetry);
  }

  /**
   * @param {number} width of the episode in ticks
   * @param {object|null|undefined} beat the robot's Heartbeat: what computes doubt and value, or why nothing does
   */
  draw(width, beat) {
    const { ticks, doubt, value, state, action, proposal } = this.series;
    const { action_low: low, action_high: high } = this.spec;
    // A policy without an ensemble says 0 at every tick.
    const doubts = doubt.some((d) => d > 0);
    this.doubt.show(doubts, "", ticks.length > 0 ? noDoubt(beat?.policy) : "—");
    if (doubts) {
      this.doubt.draw(ticks, doubt.map((d) => [d]), { width, digits: 3, limits: (values) => [0, Math.max(extent(values, 0)[1], 1e-3)] });
    }
    const valued = value.some((v) => v !== undefined);
    this.value.show(valued, valueNote(beat?.value), ticks.length > 0 ? noValue(beat?.value) : "—");
    if (valued) this.value.draw(ticks, value.map((v) => [v]), { width, digits: 2, limits: () => VALUES });
    // Centimetres of one axis must show beside decimetres of another.
    this.state.draw(ticks, state, { width, digits: 3, limits: (values) => extent(values, 0.05) });
    this.action.draw(ticks, action, { width, digits: 2, ghosts: proposal, limits: (_, i) => [low[i], high[i]] });
  }
}
