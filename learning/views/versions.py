"""One policy version: where it comes from, what it did, what it learned from, who runs it."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot, Role
from fleet.views.pages import operator_page
from learning.models import PolicyVersion
from learning.selectors.evaluations import version_name
from learning.selectors.lineage import deeds, versions_numbered
from learning.selectors.rollouts import (
    canary_view,
    fleet_version,
    moves,
    recent_changes,
    rollout_of,
    running_canary,
)

_MAX_NUMBER = 2**31 - 1


@require_GET
@operator_page()
def version(request: HttpRequest, operator: Operator, number: int) -> HttpResponse:
    """A version by its number; where several learners have it, `learner` says whose."""
    rows = list(versions_numbered(number)) if number <= _MAX_NUMBER else []
    name = request.GET.get("learner", "")
    if name:
        rows = [row for row in rows if row.learner.name == name]
    if not rows:
        raise Http404(f"no policy version has the number {number}" + (f" in {name}" * bool(name)))
    context = {"section": "policies", "operator": operator, "number": number, "rows": rows}
    if len(rows) == 1:
        row = rows[0]
        context |= {
            "version": row,
            "name": version_name(row),
            "deeds": deeds(row),
            "children": row.children.order_by("number"),
            "robots": Robot.objects.filter(reported_sha256=row.sha256).order_by("name"),
            **_rollout(row, may_lead=operator.may(Role.LEAD)),
        }
    return render(request, "learning/version.html", context)


def _rollout(row: PolicyVersion, *, may_lead: bool) -> dict[str, Any]:
    canary = row.canaries.select_related("candidate", "incumbent", "started_by__user").first()
    found = moves(row, None)
    rollout = rollout_of(row.learner)
    current = fleet_version(rollout)
    assigned = [m.robot for m in found if m.robot.assigned_sha256 == row.sha256]
    return {
        "may_lead": may_lead and row.state == PolicyVersion.State.PUBLISHED,
        "may_describe": may_lead,
        "view": canary_view(canary) if canary is not None else None,
        "assigned": assigned,
        "moving": [m for m in found if not m.stays],
        "every": Robot.objects.order_by("name"),
        "rollout": rollout,
        # Than what the fleet runs: then it is no way back.
        "newer": current is None or row.number > current.number,
        "open_canary": running_canary(row.learner),
        "changes": recent_changes(row),
        "tags": list(row.tags.values_list("name", flat=True)),
    }
