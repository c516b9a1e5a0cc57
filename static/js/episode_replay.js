// A page that shows the replay of one episode: every `[data-replay]` on it that names one.
import { mountReplay } from "./replay.js";

for (const element of document.querySelectorAll("[data-replay]")) {
  if (element.dataset.replay) mountReplay(element);
}
