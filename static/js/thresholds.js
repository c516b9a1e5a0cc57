// Sliders of thresholds: the server sends the counts of every share once, and moving costs nothing.
import { fill, gettext, said as heard } from "./language.js";
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
  const turn = turned > 0 ? gettext(" · %(n)s turn positive") : gettext(" · %(n)s turn negative");
  const change = turned ? fill(turn, { n: number(Math.abs(turned)) }) : "";
  const lost = counts.unreadable ? fill(gettext(" · %(n)s episodes cannot be read now and are not counted"), { n: counts.unreadable }) : "";
  const words = gettext("%(n)s of %(total)s steps positive, %(forced)s of them forced%(change)s · ε %(epsilon)s · n = %(episodes)s episodes");
  const epsilon = counts.epsilons[percent - 1].toFixed(3);
  return fill(words, { n: number(then), total: number(total), forced: number(counts.forced_steps), change, epsilon, episodes: counts.episodes }) + lost;
}

async function mount(form) {
  const slider = form.querySelector("input[type=range]");
  const said = form.querySelector("[data-said]");
  const inForce = Number(slider.dataset.inForce);
  let counts;
  try {
    counts = await (await ask(form.dataset.threshold)).json();
  } catch (error) {
    said.textContent = fill(gettext("Not counted: %(problem)s."), { problem: heard(error.message) });
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
