// The episode page: every span of control with its mark, what is kept of it, and the bar to change that.
import { CorrectionBar } from "./correction_bar.js";

for (const root of document.querySelectorAll("[data-span]")) {
  const bar = new CorrectionBar(root);
  const { robot, episode, epoch, first, end, period } = root.dataset;
  bar.open(root.dataset.span, { robot, episode, epoch: Number(epoch), steps: Number(end) - Number(first), period_s: Number(period) });
}
