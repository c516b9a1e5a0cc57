// Control from one operator to another: who asks for the robot, and what may be done about it.
import { fill, gettext, ngettext } from "./language.js";

/**
 * What the row of the hand-over says and offers. Pure.
 * @param {{mine: boolean, held: string, asking: string[], you: string, mayDrive: boolean}} now who holds the
 *   robot in words ("" for nobody), who asks for it, and who looks
 * @returns {{words: string, offer: ""|"ask"|"withdraw"|"pass", label: string, to: string}}
 */
export function handover({ mine, held, asking, you, mayDrive }) {
  const nothing = { words: "", offer: "", label: "", to: "" };
  const list = asking.map((name) => (name === you ? gettext("you") : name)).join(gettext(", "));
  const names = list.charAt(0).toUpperCase() + list.slice(1);
  const alone = asking.length === 1 && asking[0] !== you;
  const words = asking.length > 0 ? fill(alone ? gettext("%(name)s asks for control") : gettext("%(names)s ask for control"), { name: names, names }) : "";
  if (!mayDrive) return { ...nothing, words };
  if (mine) {
    const to = asking[0] ?? "";
    return to ? { words, offer: "pass", label: to === you ? gettext("Hand over to your other page") : fill(gettext("Hand over to %(name)s"), { name: to }), to } : nothing;
  }
  if (!held) return nothing;
  if (asking.includes(you)) return { words, offer: "withdraw", label: gettext("Ask no more"), to: "" };
  return { words, offer: "ask", label: gettext("Ask for control"), to: "" };
}

/** The row on the page, and the messages of its button. */
export class HandoverRow {
  /**
   * @param {{page: HTMLElement, robot: string, send: (message: object) => boolean,
   *   say: (text: string, kind?: string) => void, now: () => {mine: boolean, held: string, you: string, epoch: number|null}}} parts
   */
  constructor({ page, robot, send, say, now }) {
    Object.assign(this, { robot, send, say, now });
    this.mayDrive = page.dataset.mayDrive === "true";
    this.words = page.querySelector("[data-asked]");
    this.button = page.querySelector("[data-handover]");
    this.label = page.querySelector("[data-handover-word]");
    this.asking = [];
    // To whom this page is handing over; its lease then ends as it should.
    this.passingTo = "";
    document.body.addEventListener("sop:asked", ({ detail }) => {
      if (detail.robot !== robot) return;
      this.asking = detail.operators;
      this.show();
    });
    // A new connection is a new socket: it has asked for nothing.
    document.body.addEventListener("sop:link", ({ detail }) => {
      if (!detail.online) this.asking = [];
    });
  }

  get state() {
    return handover({ ...this.now(), asking: this.asking, mayDrive: this.mayDrive });
  }

  show() {
    const { words, offer, label } = this.state;
    this.words.hidden = words === "";
    if (this.words.textContent !== words) this.words.textContent = words;
    this.button.hidden = offer === "";
    if (this.label.textContent !== label) this.label.textContent = label;
  }

  /** Do what the button offers. */
  act() {
    const { offer, to } = this.state;
    const { robot } = this;
    if (offer === "pass") {
      if (!this.send({ type: "PassControl", robot, epoch: this.now().epoch, to })) return;
      this.passingTo = to;
      this.say(fill(gettext("Handing over to %(name)s"), { name: to }));
    } else if (offer) {
      if (this.send({ type: "AskControl", robot, asking: offer === "ask" })) this.say(offer === "ask" ? gettext("Asked for control") : gettext("You ask no more"));
    }
  }
}
