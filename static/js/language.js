// Words in the reader's language. The page loads the catalog before its modules (base.html); without
// one, in English and under `node --test`, every string stands for itself.
const catalog = globalThis.django;

/** @param {string} text in English @returns {string} */
export const gettext = (text) => catalog?.gettext(text) ?? text;

/** The same word with another meaning. @param {string} context @param {string} text @returns {string} */
export const pgettext = (context, text) => catalog?.pgettext(context, text) ?? text;

/** @param {string} one @param {string} many @param {number} n @returns {string} */
export const ngettext = (one, many, n) => catalog?.ngettext(one, many, n) ?? (n === 1 ? one : many);

/** @param {string} text with `%(name)s` @param {Record<string, unknown>} values @returns {string} */
export const fill = (text, values) => text.replace(/%\((\w+)\)s/g, (mark, name) => String(values[name] ?? mark));

let patterns = null;

/** Longest first: of two phrases that fit, the one that says more. */
function compiled(phrases) {
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const literal = (text) => text.replace(/%\(\w+\)s/g, "").length;
  return Object.entries(phrases)
    .filter(([english]) => english.includes("%("))
    .sort(([a], [b]) => literal(b) - literal(a))
    .map(([english, words]) => {
      const parts = english.split(/%\((\w+)\)s/);
      const shape = parts.map((part, i) => (i % 2 ? `(?<${part}>.+?)` : escaped(part))).join("");
      return { shape: new RegExp(`^${shape}$`, "s"), words };
    });
}

/**
 * What a robot or the server said, which is English on every wire: in the reader's language where the
 * phrase is known (fleet/phrases.py), else as it came.
 * @param {string} text @param {Record<string, string>} phrases @returns {string}
 */
export function said(text, phrases = globalThis.sopPhrases) {
  if (!phrases || !text) return text;
  // Several in one, as a robot joins its reasons.
  if (text.includes(" · ")) return text.split(" · ").map((part) => said(part, phrases)).join(" · ");
  if (patterns?.of !== phrases) patterns = { of: phrases, list: compiled(phrases) };
  for (const form of [text, text.charAt(0).toLowerCase() + text.slice(1)]) if (Object.hasOwn(phrases, form)) return phrases[form];
  for (const { shape, words } of patterns.list) {
    const found = shape.exec(text);
    if (!found) continue;
    const parts = Object.entries(found.groups ?? {}).map(([name, part]) => [name, said(part, phrases)]);
    return fill(words, Object.fromEntries(parts));
  }
  return text;
}
