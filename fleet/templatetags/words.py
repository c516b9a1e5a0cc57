"""Words that reach a page in English, in the reader's language."""

from typing import Any

from django import template

from fleet import phrases

register = template.Library()


@register.filter
def said(text: Any) -> str:
    """Return what a robot, a service or a row says: translated where it is known, else as it is."""
    return phrases.said(str(text))
