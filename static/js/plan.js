// Where the policy means to go, as a line on the picture. The geometry is pure.
//
// A plan is a chunk of actions. The robot's specification says how an action moves the hand and
// where the camera stands (CameraView in fleet/protocol/spec.py); where either is missing, nothing is drawn.

const SVG = "http://www.w3.org/2000/svg";
// A plan this old says nothing about where the policy would go now.
const FRESH_MS = 500;

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

/**
 * The hand's positions if the plan were carried out from where it is.
 * @param {object} spec a RobotSpec @param {number[]} state @param {number[][]} plan actions, one a tick
 * @returns {number[][]} metres in the robot's frame; empty when nobody can say
 */
export function way(spec, state, plan) {
  const { hand } = spec;
  if (!hand || plan.length === 0) return [];
  const position = hand.position.map((name) => state[spec.state_names.indexOf(name)]);
  const columns = hand.action.map((name) => spec.action_names.indexOf(name));
  const points = [position];
  for (const action of plan) {
    const last = points.at(-1);
    points.push(last.map((value, i) => {
      const column = columns[i];
      const limited = Math.min(spec.action_high[column], Math.max(spec.action_low[column], action[column]));
      return value + hand.unit_m * limited;
    }));
  }
  return points.every((point) => point.every(Number.isFinite)) ? points : [];
}

/**
 * Where a picture shows a point.
 * @param {object} view a CameraView @param {number[]} point metres @param {number} width @param {number} height of the picture
 * @returns {[number, number]|null} from the upper left corner; null for what is behind the camera
 */
export function project(view, point, width, height) {
  const d = point.map((value, i) => value - view.position_m[i]);
  const depth = dot(d, view.forward);
  if (!(depth > 0.01)) return null;
  const scale = (view.focal_heights * height) / depth;
  return [width / 2 + scale * dot(d, view.right), height / 2 + scale * dot(d, view.down)];
}

/** The newest plan of a robot, and its line on the picture that shows it. */
export class Plan {
  constructor(spec) {
    this.spec = spec;
    this.points = [];
    this.atMs = -Infinity;
  }

  /** @param {object} telemetry @param {number} nowMs */
  take(telemetry, nowMs) {
    if (telemetry.plan?.length > 0) {
      this.points = way(this.spec, telemetry.state, telemetry.plan);
      this.atMs = nowMs;
    }
  }

  /**
   * Draw it on a view, or clear the view when there is nothing to draw.
   * @param {HTMLElement} view with a canvas and an svg of the same size @param {object|undefined} camera of the view
   * @param {"policy"|"ghost"} kind whether the policy acts, or would @param {number} nowMs
   * @returns {boolean} whether there is a line
   */
  draw(view, camera, kind, nowMs) {
    const svg = view.querySelector("svg");
    const { width, height } = view.querySelector("canvas");
    const fresh = camera?.view && nowMs - this.atMs < FRESH_MS ? this.points : [];
    const shown = fresh.map((point) => project(camera.view, point, width, height)).filter(Boolean);
    if (shown.length < 2) {
      svg.replaceChildren();
      return false;
    }
    if (svg.childElementCount === 0) svg.append(document.createElementNS(SVG, "polyline"), document.createElementNS(SVG, "circle"));
    const [line, end] = svg.children;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.dataset.kind = kind;
    line.setAttribute("points", shown.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "));
    const [x, y] = shown.at(-1);
    end.setAttribute("cx", x.toFixed(1));
    end.setAttribute("cy", y.toFixed(1));
    end.setAttribute("r", String(height / 100));
    return true;
  }
}
