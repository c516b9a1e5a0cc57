// The running episode on the robot page: who had control, its traces, and where the policy is going.
import { gettext } from "./language.js";
import { write } from "./paint.js";
import { Plan } from "./plan.js";
import { describe, draw, extend } from "./timeline.js";
import { Traces } from "./traces.js";

export class Episode {
  /** @param {HTMLElement} page @param {object} spec a RobotSpec */
  constructor(page, spec) {
    this.page = page;
    this.spec = spec;
    this.plan = new Plan(spec);
    this.traces = new Traces(page, spec);
    this.line = { episode: "", spans: [] };
    this.lane = page.querySelector("[data-timeline]");
    this.words = page.querySelector("[data-timeline-words]");
    this.planWords = page.querySelector("[data-plan-words]");
  }

  /** @param {object} telemetry @param {number} nowMs */
  take(telemetry, nowMs) {
    this.line = extend(this.line, telemetry);
    this.plan.take(telemetry, nowMs);
    this.traces.take(telemetry);
  }

  /** Say in words who had control, for people who do not see the bar. */
  describe() {
    write(this.words, describe(this.line));
  }

  /** The numbers of one tick. @param {object} telemetry */
  showNumbers({ state, action }) {
    this.spec.state_names.slice(0, 4).forEach((name, i) => write(this.page.querySelector(`[data-value='${name}']`), state[i].toFixed(3)));
    write(this.page.querySelector("[data-applied]"), action.map((v) => v.toFixed(2)).join("  "));
  }

  /** The lanes of the episode, all over the same ticks. @param {object|null|undefined} beat a Heartbeat */
  showLanes(beat) {
    const ticks = Math.max(Number(this.page.dataset.timeoutTicks), this.line.spans.at(-1)?.end ?? 0);
    draw(this.lane, this.line, ticks);
    this.traces.draw(ticks, beat);
  }

  /**
   * The line of where the policy goes, or would go: before a hand-back, that is what comes.
   * @param {import("./cameras.js").Cameras} cameras @param {boolean} driven @param {number} nowMs
   */
  showPlan(cameras, driven, nowMs) {
    if (!cameras.main) return;
    for (const view of cameras.views.values()) if (view !== cameras.main) view.querySelector("svg").replaceChildren();
    this.planWords.hidden = !this.plan.draw(cameras.main, cameras.camera, driven ? "ghost" : "policy", nowMs);
    write(this.planWords, driven ? gettext("Dashed: where the policy would go") : gettext("Line: where the policy is going"));
  }
}
