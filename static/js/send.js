// What a page sends as JSON, with its session's token.
import { ask } from "./pictures.js";

const headers = () => JSON.parse(document.body.getAttribute("hx-headers"));

/** @returns {string} for what cannot carry headers */
export const token = () => headers()["X-CSRFToken"];

/** @param {string} url @param {object} body @returns {Promise<object>} the answer @throws {Refused} in words for people */
export async function sendJson(url, body) {
  const answer = await ask(url, { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify(body) });
  return answer.json();
}
