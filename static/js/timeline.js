// Who had control in the running episode, tick by tick, as telemetry tells it.
import { fill, gettext, said } from "./language.js";

const SVG = "http://www.w3.org/2000/svg";
const KIND = { autonomous: "autonomous", handover: "human", takeover: "human", holding: "holding", stopped: "stopped" };

/**
 * Add one tick. Pure: returns the spans, a new array when they changed.
 * @param {{episode: string, spans: {mode: string, start: number, end: number}[]}} line
 * @param {{episode: string, tick: number, mode: string}} telemetry
 */
export function extend(line, { episode, tick, mode }) {
  if (episode !== line.episode) return { episode, spans: episode ? [{ mode, start: tick, end: tick + 1 }] : [] };
  const last = line.spans.at(-1);
  if (!last || tick < last.end - 1) return { episode, spans: [{ mode, start: tick, end: tick + 1 }] };
  if (last.mode === mode) {
    last.end = tick + 1;
    return line;
  }
  return { episode, spans: [...line.spans, { mode, start: last.end, end: tick + 1 }] };
}

/** @param {{spans: {mode: string, start: number, end: number}[]}} line @returns {string} for people who do not see the bar */
export function describe({ spans }) {
  return spans.map(({ mode, start, end }) => fill(gettext("%(mode)s ticks %(start)s to %(end)s"), { mode: said(mode), start, end })).join(", ") || gettext("no tick yet");
}

/** Draw the spans. @param {SVGElement} svg @param {number} width in ticks */
export function draw(svg, line, width) {
  svg.setAttribute("viewBox", `0 0 ${width} 18`);
  svg.replaceChildren(
    ...line.spans.map(({ mode, start, end }) => {
      const rect = document.createElementNS(SVG, "rect");
      rect.setAttribute("x", String(start));
      rect.setAttribute("width", String(end - start));
      rect.setAttribute("height", "18");
      rect.setAttribute("class", KIND[mode] ?? "offline");
      return rect;
    }),
  );
  svg.setAttribute("aria-label", fill(gettext("who had control: %(words)s"), { words: describe(line) }));
}
