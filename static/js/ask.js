// On the robot page: asking for help with this robot, and what its own request says.
import { typing } from "./keys.js";
import { gettext } from "./language.js";
import { pageLink } from "./link.js";
import { write } from "./paint.js";
import { askWords } from "./queue.js";

const box = document.querySelector("[data-ask]");
const robot = box.dataset.ask;
const button = box.querySelector("button");
const link = pageLink();

const asked = () => Boolean(link.help.get(robot)?.reasons?.includes("explicit")) && askWords(link.help.get(robot), {}).live;

function paint() {
  const mine = link.robots.get(robot)?.lease?.holder === link.operator;
  write(box.querySelector("[data-ask-state]"), askWords(link.help.get(robot), { you: link.operator, mine }).words);
  if (!button) return;
  button.disabled = !link.online;
  write(box.querySelector("[data-ask-word]"), asked() ? gettext("No help needed") : gettext("Ask for help"));
}

function ask() {
  if (!button || button.disabled) return;
  link.send({ type: "AskHelp", robot, wanted: !asked() });
}

for (const name of ["sop:help", "sop:snapshot", "sop:state", "sop:link"]) document.body.addEventListener(name, paint);
// The link may have said all of it before this script was here.
paint();
button?.addEventListener("click", ask);
document.addEventListener("keydown", (event) => {
  if (event.code !== "KeyH" || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!typing(event.target)) ask();
});
