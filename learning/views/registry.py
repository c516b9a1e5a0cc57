"""The registry: every version of every learner, and what each learner's publishes do."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot, Role
from fleet.views.pages import operator_page
from learning.models import Learner
from learning.selectors import registry as reads
from learning.selectors.rollouts import (
    fleet_version,
    recent_changes,
    rollout_of,
    running_canary,
)

VERSIONS_A_PAGE = 20


@require_GET
@operator_page()
def registry(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every version, newest first, by tag, state and learner; unknown filters find nothing."""
    chosen = {name: request.GET.get(name, "")[:64] for name in ("learner", "tag", "state")}
    learner = Learner.objects.filter(name=chosen["learner"]).first()
    found = reads.registered(learner=learner, tag=chosen["tag"], state=chosen["state"])
    if (chosen["learner"] and learner is None) or chosen["state"] not in {"", *reads.STATES}:
        found = found.none()
    page = Paginator(found, VERSIONS_A_PAGE).get_page(request.GET.get("page"))
    query = request.GET.copy()
    query.pop("page", None)
    learners = [
        {"learner": row, "rollout": rollout, "fleet": fleet_version(rollout),
         "canary": running_canary(row)}
        for row in Learner.objects.order_by("name")
        for rollout in [rollout_of(row)]
    ]  # fmt: skip
    context = {
        "section": "policies",
        "operator": operator,
        "may_lead": operator.may(Role.LEAD),
        "page": page,
        "entries": reads.entries(list(page)),
        "query": query.urlencode(),
        "chosen": chosen,
        "filtered": any(chosen.values()),
        "states": reads.STATES,
        "tags": reads.tag_names(),
        "learners": learners,
        "pinned": Robot.objects.filter(pinned_at__isnull=False).order_by("name"),
        "changes": recent_changes(),
    }
    return render(request, "learning/policies.html", context)
