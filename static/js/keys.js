// The list of a page's keys, by "?" or its button.

/** @param {EventTarget|null} target @returns {boolean} whether what is typed there is text */
export function typing(target) {
  return Boolean(target?.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]"));
}

export function startKeys() {
  const dialog = document.querySelector("[data-keys]");
  document.querySelector("[data-open-keys]").addEventListener("click", () => dialog.showModal());
  document.querySelector("[data-close-keys]").addEventListener("click", () => dialog.close());
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    event.preventDefault();
    if (dialog.open) dialog.close();
    else dialog.showModal();
  });
}
