// The list of a page's keys, by "?" or its button.

/** @param {EventTarget|null} target @returns {boolean} whether keys pressed there are for a field or a dialog, not for the page */
export function typing(target) {
  return Boolean(target?.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable], dialog"));
}

export function startKeys() {
  const dialog = document.querySelector("[data-keys]");
  // A driver keeps the picture and the keys: there the list opens in the page, by the page's own key.
  const inPage = document.querySelector("[data-keymap]");
  document.querySelector("[data-open-keys]").addEventListener("click", () => {
    if (inPage) inPage.open = !inPage.open;
    else dialog.showModal();
  });
  document.querySelector("[data-close-keys]").addEventListener("click", () => dialog.close());
  if (inPage) return;
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    event.preventDefault();
    dialog.showModal();
  });
}
