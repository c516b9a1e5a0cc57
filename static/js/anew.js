// Asking the server for a page anew when a robot is more than the page was made for.

const KEY = "sop.reloaded";
const PAUSE_MS = 10_000;

/** Reload, but never again and again: what the page lacks may be missing on the server, too. */
export function loadAnew() {
  if (Date.now() - Number(sessionStorage.getItem(KEY)) < PAUSE_MS) return;
  sessionStorage.setItem(KEY, String(Date.now()));
  location.reload();
}
