"""One episode: facts, labels, interventions, lineage, and what it recorded at each step."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator, Role
from fleet.views.pages import operator_page
from learning.exceptions import NotFound, Unprocessable
from learning.models import Episode
from learning.selectors import steps as recorded
from learning.selectors.corrections import spans_of
from learning.selectors.lineage import episode_of, makers, taught
from learning.views.replay import said_as_json


def _found(uid: UUID) -> Episode:
    try:
        return episode_of(uid)
    except NotFound as error:
        raise Http404(str(error)) from None


@require_GET
@operator_page()
def episode(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """Everything that is known of one episode."""
    found = _found(uid)
    standing = [one for one in found.labels.all() if one.outcome and not one.withdrawn]
    context: dict[str, Any] = {
        "section": "episodes",
        "operator": operator,
        "episode": found,
        "in_force": standing[0] if standing else None,
        "spans": spans_of(found),
        "may_correct": operator.may(Role.OPERATOR),
        "makers": makers(found),
        "taught": taught(found),
        "stored_bytes": sum(part.size_bytes for part in found.parts.all()),
    }
    return render(request, "learning/episode.html", context)


@require_GET
@operator_page()
@said_as_json
def steps(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """A block of steps as JSON; `first` is the index of its first step."""
    text = request.GET.get("first", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise Unprocessable(f"first is the index of a step, not “{text[:40]}”")
    return JsonResponse(recorded.block(_found(uid), int(text)))


@require_GET
@operator_page()
@said_as_json
def curves(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """The episode's curves as JSON."""
    return JsonResponse(recorded.curves(_found(uid)))
