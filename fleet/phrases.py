"""What robots, services and rows say, which pages show in the reader's language.

Robots and services speak English, because what they say is stored, logged and sent to every reader
alike. A page looks the sentence up here, by its English form with `%(name)s` for what varies, and
shows what is not found as it came. Page scripts do the same with the same list (`language.js`).
"""

import re
from collections.abc import Iterable
from functools import cache

from django.utils.translation import get_language, gettext

_MARK = re.compile(r"%\((\w+)\)s")
_known: dict[str, None] = {}


def add(phrases: Iterable[str]) -> None:
    """Make more phrases known; an app does so when it is ready."""
    _known.update(dict.fromkeys(phrases))
    known.cache_clear()


@cache
def known() -> tuple[str, ...]:
    """Return every phrase, those first that say most: of two that fit, the first is meant."""
    return tuple(sorted(_known, key=lambda phrase: -len(_MARK.sub("", phrase))))


def table() -> dict[str, str]:
    """Return each phrase with its words in the language in force; empty for English."""
    words = {phrase: gettext(phrase) for phrase in known()}
    return {phrase: word for phrase, word in words.items() if word != phrase}


def said(text: str) -> str:
    """Return what was said in English in the language in force, or as it is where unknown."""
    language = get_language()
    if not text or language is None or language.startswith("en"):
        return text
    # Several in one, as a robot joins its reasons.
    if " · " in text:
        return " · ".join(map(said, text.split(" · ")))
    if (phrase := find(text)) is None:
        return text
    found = _shape(phrase).fullmatch(text)
    parts = {name: said(part) for name, part in found.groupdict().items()} if found else {}
    return fill(gettext(phrase), parts)


def sentence(error: Exception) -> str:
    """Return what a refusal says as a sentence of its own, in the language in force."""
    words = said(str(error))
    return gettext("%(words)s.") % {"words": f"{words[:1].upper()}{words[1:]}"}


def find(text: str) -> str | None:
    """Return the phrase that `text` is an example of; a capital at the beginning is none of it."""
    for form in (text, text[:1].lower() + text[1:]):
        if form in _known:
            return form
    return next((p for p in known() if "%(" in p and _shape(p).fullmatch(text)), None)


def fill(words: str, parts: dict[str, str]) -> str:
    """Return `words` with its marks filled; unlike `%`, a sign of percent needs no other."""
    return _MARK.sub(lambda mark: parts.get(mark[1], mark[0]), words)


@cache
def _shape(phrase: str) -> re.Pattern[str]:
    parts = _MARK.split(phrase)
    pieces = [f"(?P<{p}>.+?)" if i % 2 else re.escape(p) for i, p in enumerate(parts)]
    return re.compile("".join(pieces), re.DOTALL)
