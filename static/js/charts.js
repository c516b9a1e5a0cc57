// Charts: the server builds the figures, this asks for them and hands them to plotly.
//
// Colours come as "token:<name>" and are taken from the stylesheet, so that one figure serves both
// themes.
import { fill, gettext } from "./language.js";
import { write } from "./paint.js";
import { age } from "./words.js";

const REFRESH_MS = 4000;
// Of a picture that is saved.
const PNG = { format: "png", width: 1200, height: 500 };
const CONFIG = { displayModeBar: false, responsive: true };

const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

function tokenColour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** Replace every "token:<name>[/alpha]" in a figure. Pure but for `colourOf`. */
export function themed(value, colourOf) {
  if (typeof value === "string" && value.startsWith("token:")) {
    const [name, alpha] = value.slice(6).split("/");
    const colour = colourOf(name);
    return alpha ? colour.replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`) : colour;
  }
  if (Array.isArray(value)) return value.map((item) => themed(item, colourOf));
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, colourOf)]));
  }
  return value;
}

export class Charts {
  /** @param {HTMLElement} root with data-figures, the address of the figures */
  constructor(root) {
    this.root = root;
    this.figures = null;
    this.fetchedMs = NaN;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    document.addEventListener("visibilitychange", () => this.refresh());
    setInterval(() => this.refresh(), 1000 * Number(root.dataset.everyS) || REFRESH_MS);
    root.addEventListener("click", (event) => this.save(event.target.closest("[data-png]")?.dataset.png));
    setInterval(() => this.showAge(), 1000);
    this.refresh();
  }

  async refresh() {
    if (document.hidden || this.asking) return;
    this.asking = true;
    try {
      const answer = await fetch(this.root.dataset.figures, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(fill(gettext("the server answered %(status)s"), { status: answer.status }));
      this.figures = await answer.json();
      this.fetchedMs = performance.now();
      this.draw();
    } catch {
      // The age keeps growing on screen, and the bar at the top says what happened.
    }
    this.asking = false;
    this.showAge();
  }

  draw() {
    for (const [name, figure] of Object.entries(this.figures ?? {})) {
      const element = this.root.querySelector(`[data-chart='${name}']`);
      if (!element) continue;
      const empty = this.root.querySelector(`[data-empty='${name}']`);
      empty.hidden = figure !== null;
      element.hidden = figure === null;
      if (figure) {
        const { data, layout } = themed(figure, tokenColour);
        globalThis.Plotly.react(element, data, layout, CONFIG);
        this.lead(element);
      }
    }
  }

  /** A click on a point leads to what it was drawn from. */
  lead(element) {
    if (element.dataset.leads) return;
    element.dataset.leads = "true";
    element.on("plotly_click", ({ points }) => {
      const address = points[0]?.customdata;
      if (typeof address === "string") location.assign(address);
    });
  }

  /** Save a figure as a picture, on the page's own background. */
  save(name) {
    const figure = name && this.figures?.[name];
    if (!figure) return;
    const { data, layout } = themed(figure, tokenColour);
    const paper_bgcolor = tokenColour("surface");
    globalThis.Plotly.downloadImage({ data, layout: { ...layout, paper_bgcolor } }, { ...PNG, filename: name });
  }

  showAge() {
    const slot = document.querySelector("[data-figures-age]");
    if (slot) write(slot, Number.isNaN(this.fetchedMs) ? gettext("loading") : fill(gettext("figures %(age)s old"), { age: age(performance.now() - this.fetchedMs) }));
  }
}

const root = document.querySelector("[data-figures]");
if (root) new Charts(root);
