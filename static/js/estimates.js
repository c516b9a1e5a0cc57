// What a robot estimates of itself, doubt and value, in words: why there is none, or by what. Pure.

/**
 * Why the policy that acts says no doubt.
 * @param {object|null|undefined} policy a PolicyRef @returns {string}
 */
export function noDoubt(policy) {
  if (!policy) return "none: no policy acts";
  const version = `v${policy.number}`;
  if (policy.parent === null || policy.parent === undefined) {
    return `none: ${version} was imported without an ensemble to disagree; doubt comes with the first version that a learner trains`;
  }
  return `none: ${version} was trained without an ensemble (recipe option doubt_heads)`;
}

/**
 * Why a robot says no value.
 * @param {object|null|undefined} status a ValueStatus; none from agents from before it @returns {string}
 */
export function noValue(status) {
  if (!status) return "none: this robot's agent does not know of value functions";
  if (isNumber(status.number)) return `none yet: function ${status.number} speaks after the next inference of an episode`;
  if (status.reason) return `none: ${status.reason}`;
  if (status.told) return "none yet: a value function waits for the next episode";
  return "none: no value function is fitted yet (learner page), or robots are to compute none (fleet settings)";
}

/**
 * By which function a value is, and how far to trust it.
 * @param {object|null|undefined} status a ValueStatus @returns {string}
 */
export function valueNote(status) {
  if (!isNumber(status?.number)) return "";
  const { correlation } = status;
  const rank = isNumber(correlation) ? `rank correlation ${correlation.toFixed(2)} on held-out episodes` : "of unknown rank correlation";
  return [`function ${status.number}`, rank, status.reason].filter(Boolean).join(" · ");
}

/** @param {object|null|undefined} status a ValueStatus @returns {string} which one it computes, at what cost */
export function valueWords(status) {
  if (!isNumber(status?.number)) return "none";
  return status.took_ms > 0 ? `${status.number} · ${status.took_ms.toFixed(1)} ms an inference` : String(status.number);
}

const isNumber = (value) => value !== null && value !== undefined;
