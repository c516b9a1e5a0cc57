"""Lists as part of a sentence: robots, versions and moves, by name and with their pages."""

from collections.abc import Iterable, Sequence

from django import template
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from learning.models import PolicyVersion
from learning.selectors.rollouts import Move

register = template.Library()

# More than these would hide the sentence they stand in.
VERSIONS_LISTED = 12


@register.filter
def robot_links(names: Iterable[str]) -> SafeString:
    """Return names of robots that lead to their pages: "arm-1, arm-2"."""
    rows = ((reverse("fleet:robot", kwargs={"name": name}), name) for name in names)
    return format_html_join(", ", '<a href="{}">{}</a>', rows)


@register.filter
def version_links(versions: Sequence[PolicyVersion]) -> SafeString:
    """Return the first versions, leading to their pages: "v1, v2 and 3 more"."""
    rows = (
        (reverse("learning:version", kwargs={"number": v.number}), v.learner.name, v.number)
        for v in versions[:VERSIONS_LISTED]
    )
    listed = format_html_join(", ", '<a href="{}?learner={}">v{}</a>', rows)
    if len(versions) <= VERSIONS_LISTED:
        return listed
    more = _("and %(n)s more") % {"n": len(versions) - VERSIONS_LISTED}
    return format_html_join(" ", "{}", [(listed,), (more,)])


@register.filter
def moves_listed(moves: Iterable[Move]) -> str:
    """Return robots with the versions they leave: "arm-1 from v2, arm-3"."""
    return ", ".join(
        _("%(robot)s from v%(number)s") % {"robot": move.robot.name, "number": move.before}
        if move.before is not None
        else move.robot.name
        for move in moves
    )
