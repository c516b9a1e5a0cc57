// Numbers of an episode as text and as the line of a curve. Pure.

/** @param {number|null} value @returns {string} */
export function figure(value) {
  return value === null || value === undefined ? "—" : value.toFixed(3);
}

/**
 * The line of a curve, broken where a value is missing.
 * @param {(number|null)[]} values @param {number[]} steps @param {number} total steps in all
 * @param {[number, number]} range lowest and highest value @returns {string} an SVG path, 600 × 90
 */
export function pathOf(values, steps, total, [low, high]) {
  const span = high - low || 1;
  let drawing = false;
  return values
    .map((value, i) => {
      if (value === null) {
        drawing = false;
        return "";
      }
      const x = (600 * steps[i]) / Math.max(1, total - 1);
      const y = 86 - (82 * (value - low)) / span;
      const mark = `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      drawing = true;
      return mark;
    })
    .join("");
}

/** @param {(number|null)[][]} lists @returns {[number, number]} */
export function rangeOf(...lists) {
  const known = lists.flat().filter((value) => value !== null && value !== undefined);
  return known.length ? [Math.min(...known), Math.max(...known)] : [0, 1];
}

/**
 * The range of a series, at least `least` wide, so that noise does not look like news. A series may
 * be longer than a function takes arguments.
 * @param {(number|null|undefined)[]} values @param {number} [least] @returns {[number, number]}
 */
export function extent(values, least = 0.1) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, least];
  const missing = Math.max(0, least - (high - low)) / 2;
  return [low - missing, high + missing];
}
