"""The learner page and its fragments, and today's figures for the fleet page."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from fleet.models import Operator, Robot, Role
from fleet.views.pages import operator_page
from learning import charts
from learning.exceptions import NotFound
from learning.models import Learner, PolicyVersion
from learning.selectors import metrics
from learning.services.learners import pause_learner, start_learner

VERSIONS_SHOWN = 15


def _chosen(request: HttpRequest) -> Learner | None:
    """Return the learner the page is about: the named one, else the first."""
    learners = Learner.objects.order_by("name")
    name = request.GET.get("name")
    return (learners.filter(name=name) if name else learners).first()


def _state(learner: Learner, operator: Operator) -> dict[str, Any]:
    newest = learner.metrics.order_by("-id").first()
    return {
        "learner": learner,
        "may_lead": operator.may(Role.LEAD),
        "latest": newest.values if newest else {},
        "figures": metrics.round_figures(learner),
        "rounds": metrics.recent_rounds(learner),
        "omegas": _omegas(newest.values if newest else {}),
        "tasks": metrics.success_by_task(),
    }


def _omegas(values: dict[str, Any]) -> list[dict[str, Any]]:
    raw, used = values.get("omega_raw") or {}, values.get("omega") or {}
    return [{"task": task, "raw": raw.get(task), "used": used[task]} for task in sorted(used)]


@require_GET
@operator_page()
def today(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Today's figures: a fragment of the fleet page."""
    return render(request, "learning/_today.html", {"today": metrics.today()})


@require_GET
@operator_page()
def learner(request: HttpRequest, operator: Operator) -> HttpResponse:
    """State, curves, sampler, versions of one learner."""
    chosen = _chosen(request)
    context: dict[str, Any] = {"section": "learner", "operator": operator, "learner": chosen}
    if chosen is not None:
        context |= _state(chosen, operator) | {"versions": _versions(chosen)}
        context["learners"] = Learner.objects.order_by("name")
    return render(request, "learning/learner.html", context)


@require_GET
@operator_page()
def state(request: HttpRequest, operator: Operator) -> HttpResponse:
    """What the learner does now: a fragment."""
    chosen = _chosen(request)
    if chosen is None:
        return HttpResponse(status=404)
    return render(request, "learning/_state.html", _state(chosen, operator))


@require_GET
@operator_page()
def versions(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The newest versions and the robots that run them: a fragment."""
    chosen = _chosen(request)
    if chosen is None:
        return HttpResponse(status=404)
    return render(request, "learning/_versions.html", {"versions": _versions(chosen)})


def _versions(learner: Learner) -> list[dict[str, Any]]:
    running: dict[str, list[Robot]] = {}
    for robot in Robot.objects.filter(enabled=True).exclude(reported_sha256=""):
        running.setdefault(robot.reported_sha256, []).append(robot)
    rows = list(
        PolicyVersion.objects.filter(learner=learner)
        .select_related("parent")
        .order_by("-number")[:VERSIONS_SHOWN]
    )
    shown = {row.sha256 for row in rows}
    # A robot left behind on an old version must not drop out of sight.
    rows += list(
        PolicyVersion.objects.filter(learner=learner, sha256__in=set(running) - shown)
        .select_related("parent")
        .order_by("-number")
    )
    return [{"version": row, "robots": running.get(row.sha256, [])} for row in rows]


@require_GET
@operator_page()
def figures(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every figure of the page as JSON; null where there is nothing to draw."""
    chosen = _chosen(request)
    if chosen is None:
        return JsonResponse({})
    points = metrics.curve(chosen)
    return JsonResponse(
        {
            "success": charts.success(metrics.success_curve()),
            "loss": charts.loss(points),
            "omega": charts.omega(points),
            "buffers": charts.buffers(points),
        }
    )


@require_POST
@operator_page(Role.LEAD)
def switch(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """Start or pause a learner; answers with the fragment."""
    change = start_learner if request.POST.get("state") == "running" else pause_learner
    try:
        chosen = change(name)
    except NotFound as error:
        raise Http404(str(error)) from None
    if not request.htmx:
        return redirect("learning:learner")
    return render(request, "learning/_state.html", _state(chosen, operator))
