// Settling conflicts of labellers: one button a judgement, said beside it when it is stored.
import { newUid } from "./judging.js";
import { fill, gettext, said } from "./language.js";
import { sendJson } from "./send.js";

async function settle(row, outcome) {
  const slot = row.querySelector("[data-settled]");
  const buttons = row.querySelectorAll("[data-settle]");
  // The same name until it is stored: pressing again after a failure changes nothing twice.
  row.dataset[outcome] ||= newUid();
  for (const button of buttons) button.disabled = true;
  slot.textContent = gettext("saving");
  try {
    await sendJson(row.dataset.conflict, { uid: row.dataset[outcome], outcome, review: true });
    slot.textContent = fill(gettext("settled: %(outcome)s"), { outcome: said(outcome) });
  } catch (error) {
    slot.textContent = fill(gettext("not saved: %(problem)s"), { problem: said(error.message) });
    for (const button of buttons) button.disabled = false;
  }
}

for (const row of document.querySelectorAll("[data-conflict]")) {
  for (const button of row.querySelectorAll("[data-settle]")) button.addEventListener("click", () => settle(row, button.dataset.settle));
}
