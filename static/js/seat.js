// A page of the labelling desk keeps what it shows from being handed to others, while it is seen.
import { token } from "./send.js";

// A third of what a claim lasts (learning/services/desk.py).
const RENEW_MS = 20_000;

/**
 * Renew what the page holds while it is visible, and give it up when the page is left. Hidden, it
 * lets go by and by; seen again, it asks whether it still has it.
 * @param {{renew: () => void, leave: string, name: string}} parts address to give it up at; the page's own name
 */
export function keepSeat({ renew, leave, name }) {
  setInterval(() => !document.hidden && renew(), RENEW_MS);
  document.addEventListener("visibilitychange", () => !document.hidden && renew());
  // Back from the browser's memory: the page goes on where it was left.
  addEventListener("pageshow", (event) => event.persisted && renew());
  addEventListener("pagehide", () => {
    const said = new FormData();
    said.set("page", name);
    // A beacon outlives its page, and carries no headers.
    said.set("csrfmiddlewaretoken", token());
    navigator.sendBeacon(leave, said);
  });
}
