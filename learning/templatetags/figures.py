"""Numbers as people read them: shares, intervals, ages."""

import math
from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone
from django.utils.translation import gettext as _

from learning.selectors.evaluations import Arm
from learning.selectors.metrics import Rate

register = template.Library()


@register.filter
def percent(share: Any) -> str:
    """Return 0.914 as "91 %", what is no number as "—"."""
    known = isinstance(share, int | float) and math.isfinite(share)
    return f"{100 * share:.0f} %" if known else "—"


@register.filter
def interval(rate: Rate | Arm) -> str:
    """Return the Wilson interval of a rate in percent: "[88–93]"."""
    return f"[{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


@register.filter
def ago(at: datetime | None) -> str:
    """Return how long ago `at` was, in the largest unit that fits: "6 s ago"."""
    if at is None:
        return _("never")
    seconds = max(0.0, (timezone.now() - at).total_seconds())
    for unit, length in (("d", 129_600), ("h", 5400), ("min", 90)):
        if seconds >= length:
            number = f"{seconds / {'d': 86_400, 'h': 3600, 'min': 60}[unit]:.0f}"
            return _("%(age)s ago") % {"age": f"{number} {unit}"}
    return _("%(age)s ago") % {"age": f"{seconds:.0f} s"}


@register.filter
def share(value: Any) -> str:
    """Return a number in [0, 1] with two places, what is no number as "—"."""
    return f"{value:.2f}" if isinstance(value, int | float) else "—"


@register.filter
def whole(value: Any) -> str:
    """Return a number without its places, what is no number as "—"."""
    return f"{value:.0f}" if isinstance(value, int | float) and math.isfinite(value) else "—"


@register.filter
def signed(value: float) -> str:
    """Return a difference of shares in points: "+12" or "−3"."""
    points = round(100 * value)
    return f"{'−' if points < 0 else '+'}{abs(points)}"
