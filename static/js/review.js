// Settling conflicts of labellers: one button a judgement, said beside it when it is stored.
import { newUid } from "./judging.js";
import { sendJson } from "./send.js";

async function settle(row, outcome) {
  const said = row.querySelector("[data-settled]");
  const buttons = row.querySelectorAll("[data-settle]");
  // The same name until it is stored: pressing again after a failure changes nothing twice.
  row.dataset[outcome] ||= newUid();
  for (const button of buttons) button.disabled = true;
  said.textContent = "saving";
  try {
    await sendJson(row.dataset.conflict, { uid: row.dataset[outcome], outcome, review: true });
    said.textContent = `settled: ${outcome}`;
  } catch (error) {
    said.textContent = `not saved: ${error.message}`;
    for (const button of buttons) button.disabled = false;
  }
}

for (const row of document.querySelectorAll("[data-conflict]")) {
  for (const button of row.querySelectorAll("[data-settle]")) button.addEventListener("click", () => settle(row, button.dataset.settle));
}
