// Sliders of thresholds: the server sends the counts of every share once, and moving costs nothing.
import { ask } from "./pictures.js";

/**
 * What a share means, in words. Pure.
 * @param {{epsilons: number[], positive_steps: number[], free_steps: number, forced_steps: number, episodes: number, unreadable: number}} counts
 * @param {number} percent @param {number} inForce percent
 */
export function wordsOf(counts, percent, inForce) {
  const number = (n) => n.toLocaleString("en-US");
  const [now, then] = [inForce, percent].map((p) => counts.positive_steps[p - 1]);
  const total = counts.free_steps + counts.forced_steps;
  const turned = then - now;
  const change = turned ? ` · ${number(Math.abs(turned))} turn ${turned > 0 ? "positive" : "negative"}` : "";
  const lost = counts.unreadable ? ` · ${counts.unreadable} episodes cannot be read now and are not counted` : "";
  return `${number(then)} of ${number(total)} steps positive, ${number(counts.forced_steps)} of them forced${change} · ε ${counts.epsilons[percent - 1].toFixed(3)} · n = ${counts.episodes} episodes${lost}`;
}

async function mount(form) {
  const slider = form.querySelector("input[type=range]");
  const said = form.querySelector("[data-said]");
  const inForce = Number(slider.dataset.inForce);
  let counts;
  try {
    counts = await (await ask(form.dataset.threshold)).json();
  } catch (error) {
    said.textContent = `Not counted: ${error.message}.`;
    return;
  }
  const show = () => {
    const percent = Number(slider.value);
    form.querySelector("[data-percent]").textContent = `${percent} %`;
    said.textContent = wordsOf(counts, percent, inForce);
    const button = form.querySelector("button");
    if (button) button.disabled = percent === inForce;
  };
  slider.addEventListener("input", show);
  show();
}

if (typeof document !== "undefined") for (const form of document.querySelectorAll("[data-threshold]")) mount(form);
