// The strips under a replay: value, advantage, indicator, doubt, actions, and who had control.
import { extent } from "./curve.js";
import { fill, gettext, said } from "./language.js";
import { pathOf, runs } from "./playback.js";

const SVG = "http://www.w3.org/2000/svg";
const STATE = { policy: "autonomous", human: "human", handover: "handover", nobody: "holding" };
const WORDS = { policy: gettext("policy"), human: gettext("operator"), handover: gettext("handover"), nobody: gettext("nobody") };
const SERIES = ["accent", "s2", "s3", "s4", "s5", "s6", "s7", "s8"];
const LOW = 18;
const HIGH = 56;

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

const rect = (start, end, height, kind) =>
  shape("rect", { x: start, y: 0, width: end - start, height, class: kind });

function strip(title, note, height, label, shapes, steps) {
  const row = document.createElement("div");
  row.className = "strip";
  const head = document.createElement("div");
  head.className = "row";
  head.append(Object.assign(document.createElement("span"), { textContent: title }));
  head.append(Object.assign(document.createElement("small"), { textContent: note }));
  const svg = shape("svg", {
    viewBox: `0 0 ${Math.max(1, steps)} ${height}`, preserveAspectRatio: "none", role: "img",
    class: height === LOW ? "lane" : "lane tall", "aria-label": label,
  });
  svg.append(...shapes);
  row.append(head, svg);
  return row;
}

function valueStrip(replay) {
  const { value, value_function: by, steps, suggestion } = replay;
  const range = extent(value);
  const line = pathOf(value, range, HIGH);
  const shapes = [shape("path", { d: `${line}L${steps} ${HIGH}L0 ${HIGH}Z`, class: "area" }), shape("path", { d: line, class: "line accent" })];
  if (suggestion) shapes.push(shape("line", { x1: suggestion.step, x2: suggestion.step, y1: 0, y2: HIGH, class: "drop" }));
  const quality = by.correlation === null ? gettext("not yet judged") : `Spearman ${by.correlation.toFixed(2)}`;
  const note = fill(gettext("%(low)s to %(high)s"), { low: range[0].toFixed(2), high: range[1].toFixed(2) });
  const words = suggestion ? fill(gettext("falls most at step %(n)s"), { n: suggestion.step }) : gettext("falls nowhere much");
  const name = by.recorded ? gettext("Value at the time (function %(n)s, %(quality)s)") : gettext("Value (function %(n)s, %(quality)s)");
  return strip(fill(name, { n: by.number, quality }), note, HIGH, fill(gettext("value of each step: %(note)s, %(words)s"), { note, words }), shapes, steps);
}

function advantageStrip(replay) {
  const { advantage, value_function: by, steps } = replay;
  const range = extent([...advantage, by.epsilon ?? 0]);
  const shapes = [shape("path", { d: pathOf(advantage, range, HIGH), class: "line accent" })];
  if (by.epsilon !== null) {
    const y = HIGH - ((by.epsilon - range[0]) / (range[1] - range[0])) * HIGH;
    shapes.unshift(shape("line", { x1: 0, x2: steps, y1: y, y2: y, class: "level" }));
  }
  const note = by.epsilon === null ? gettext("no threshold") : fill(gettext("line: threshold ε %(epsilon)s"), { epsilon: by.epsilon.toFixed(3) });
  return strip(gettext("Advantage"), note, HIGH, fill(gettext("advantage of each step, %(note)s"), { note }), shapes, steps);
}

function indicatorStrip(replay) {
  const spans = runs(replay.indicator);
  const kinds = ["none", "negative", "positive"];
  const positive = replay.indicator.filter((i) => i === 2).length;
  const share = Math.round((100 * positive) / Math.max(1, replay.indicator.length));
  const note = fill(gettext("%(share)s % of %(n)s steps positive"), { share, n: replay.indicator.length });
  const shapes = spans.map((s) => rect(s.start, s.end, LOW, kinds[s.value] ?? "none"));
  return strip(gettext("Told to the policy as positive"), note, LOW, note, shapes, replay.steps);
}

function controlStrip(replay) {
  const shapes = replay.control.map((s) => rect(s.start, s.end, LOW, STATE[s.who]));
  const words = replay.control.map((s) => fill(gettext("%(who)s steps %(start)s to %(end)s"), { who: WORDS[s.who], start: s.start, end: s.end })).join(", ");
  const people = replay.interventions.map((i) => `${i.operator}${i.operator_kind === "human" ? "" : ` (${said(i.operator_kind)})`}`);
  const note = people.length ? fill(gettext("corrected by %(names)s"), { names: [...new Set(people)].join(", ") }) : gettext("no intervention");
  return strip(gettext("Who had control"), note, LOW, fill(gettext("who had control: %(words)s"), { words }), shapes, replay.steps);
}

function lines(title, names, rows, steps) {
  const range = extent(rows.flat());
  const shapes = names.map((_, i) =>
    shape("path", { d: pathOf(rows.map((row) => row[i]), range, HIGH), class: `line ${SERIES[i % SERIES.length]}` }),
  );
  const note = fill(gettext("%(name)s: %(low)s to %(high)s"), { name: names.join(", "), low: range[0].toFixed(2), high: range[1].toFixed(2) });
  return strip(title, note, HIGH, `${title}, ${note}`, shapes, steps);
}

function doubtStrip(replay) {
  const range = extent(replay.doubt);
  const note = fill(gettext("%(low)s to %(high)s"), { low: range[0].toFixed(2), high: range[1].toFixed(2) });
  const shapes = [shape("path", { d: pathOf(replay.doubt, range, HIGH), class: "line accent" })];
  return strip(gettext("Doubt"), note, HIGH, fill(gettext("doubt of each step: %(note)s"), { note }), shapes, replay.steps);
}

/** Words under the strips: every colour has one. @param {object} replay */
export function legendOf(replay) {
  return [...new Set(replay.control.map((s) => s.who))].map((who) => ({ kind: STATE[who], word: WORDS[who] }));
}

/** Draw every strip that there is something for. @param {Element} place @param {object} replay */
export function drawStrips(place, replay) {
  const strips = [];
  if (replay.value) strips.push(valueStrip(replay));
  if (replay.advantage) strips.push(advantageStrip(replay));
  if (replay.indicator) strips.push(indicatorStrip(replay));
  strips.push(controlStrip(replay));
  if (replay.doubt) strips.push(doubtStrip(replay));
  if (!replay.cameras.length && replay.action.length) {
    strips.push(lines(gettext("Action"), replay.action_names, replay.action, replay.steps));
    strips.push(lines(gettext("State"), replay.state_names, replay.state, replay.steps));
  }
  place.replaceChildren(...strips);
}
