// How a person likes to drive, as the browser remembers it. Pure.

export const SPEEDS = { low: 0.1, high: 1, step: 0.1 };

/** @param {number} speed @param {number} steps @returns {number} a speed of the scale */
export function faster(speed, steps) {
  const next = Math.round((speed + steps * SPEEDS.step) * 10) / 10;
  return Math.min(SPEEDS.high, Math.max(SPEEDS.low, next));
}

/**
 * How this person drives, from what the browser remembered; whatever is missing or odd is the default.
 * @param {string|null} text JSON @returns {{speed: number, frame: "camera"|"robot", mirrored: boolean}}
 */
export function preferences(text) {
  let said = null;
  try {
    said = JSON.parse(text ?? "null");
  } catch {
    // Somebody else's text: the defaults do.
  }
  const speed = Number.isFinite(said?.speed) ? faster(said.speed, 0) : 0.6;
  return { speed, frame: said?.frame === "robot" ? "robot" : "camera", mirrored: said?.mirrored === true };
}
