// What a robot estimates of itself, doubt and value, in words: why there is none, or by what. Pure.
import { fill, gettext, said } from "./language.js";

/**
 * Why the policy that acts says no doubt.
 * @param {object|null|undefined} policy a PolicyRef @returns {string}
 */
export function noDoubt(policy) {
  if (!policy) return gettext("none: no policy acts");
  const version = `v${policy.number}`;
  if (policy.parent === null || policy.parent === undefined) {
    return fill(gettext("none: %(version)s was imported without an ensemble to disagree; doubt comes with the first version that a learner trains"), { version });
  }
  return fill(gettext("none: %(version)s was trained without an ensemble (recipe option doubt_heads)"), { version });
}

/**
 * Why a robot says no value.
 * @param {object|null|undefined} status a ValueStatus; none from agents from before it @returns {string}
 */
export function noValue(status) {
  if (!status) return gettext("none: this robot's agent does not know of value functions");
  if (isNumber(status.number)) return fill(gettext("none yet: function %(n)s speaks after the next inference of an episode"), { n: status.number });
  if (status.reason) return fill(gettext("none: %(why)s"), { why: said(status.reason) });
  if (status.told) return gettext("none yet: a value function waits for the next episode");
  return gettext("none: no value function is fitted yet (learner page), or robots are to compute none (fleet settings)");
}

/**
 * By which function a value is, and how far to trust it.
 * @param {object|null|undefined} status a ValueStatus @returns {string}
 */
export function valueNote(status) {
  if (!isNumber(status?.number)) return "";
  const { correlation } = status;
  const rank = isNumber(correlation) ? fill(gettext("rank correlation %(rho)s on held-out episodes"), { rho: correlation.toFixed(2) }) : gettext("of unknown rank correlation");
  return [fill(gettext("function %(n)s"), { n: status.number }), rank, said(status.reason)].filter(Boolean).join(" · ");
}

/** @param {object|null|undefined} status a ValueStatus @returns {string} which one it computes, at what cost */
export function valueWords(status) {
  if (!isNumber(status?.number)) return "none";
  return status.took_ms > 0 ? fill(gettext("%(n)s · %(ms)s ms an inference"), { n: status.number, ms: status.took_ms.toFixed(1) }) : String(status.number);
}

const isNumber = (value) => value !== null && value !== undefined;
