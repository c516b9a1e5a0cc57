"""The learner page and its fragments, and today's figures for the fleet page."""

from collections.abc import Callable
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from fleet.models import Operator, Robot, Role
from fleet.selectors.access import require_role
from fleet.views.pages import operator_page
from learning import charts
from learning.exceptions import NotFound
from learning.models import Learner, PolicyVersion
from learning.selectors import forgetting, metrics
from learning.selectors.learners import learner_named
from learning.services.learners import pause_learner, start_learner
from learning.views import values

VERSIONS_SHOWN = 15


def _chosen(request: HttpRequest) -> Learner | None:
    """Return the learner the page is about: the named one, else the first."""
    learners = Learner.objects.order_by("name")
    name = request.GET.get("name")
    return (learners.filter(name=name) if name else learners).first()


def _newest(learner: Learner) -> dict[str, Any]:
    point = learner.metrics.order_by("-id").first()
    return point.values if point else {}


def _state(learner: Learner) -> dict[str, Any]:
    return {
        "latest": _newest(learner),
        "figures": metrics.round_figures(learner),
        "doubt": metrics.takeover_doubt(learner),
    }


def _tasks(learner: Learner) -> dict[str, Any]:
    values = _newest(learner)
    raw, used = values.get("omega_raw") or {}, values.get("omega") or {}
    return {
        "tasks": metrics.success_by_task(),
        "omegas": [{"task": t, "raw": raw.get(t), "used": used[t]} for t in sorted(used)],
    }


def _rounds(learner: Learner) -> dict[str, Any]:
    return {"rounds": metrics.recent_rounds(learner)}


def _versions(learner: Learner) -> dict[str, Any]:
    running: dict[str, list[Robot]] = {}
    for robot in Robot.objects.filter(enabled=True).exclude(reported_sha256=""):
        running.setdefault(robot.reported_sha256, []).append(robot)
    every = PolicyVersion.objects.filter(learner=learner).select_related("parent")
    rows = list(every.order_by("-number")[:VERSIONS_SHOWN])
    # A robot left behind on an old version must not drop out of sight.
    missing = set(running) - {row.sha256 for row in rows}
    rows += list(every.filter(sha256__in=missing).order_by("-number"))
    return {"versions": [{"version": r, "robots": running.get(r.sha256, [])} for r in rows]}


def _forgetting(learner: Learner) -> dict[str, Any]:
    return {"alarms": forgetting.alarms(forgetting.success_by_version(learner))}


# Parts of the page that reload alone.
_PARTS: dict[str, Callable[[Learner], dict[str, Any]]] = {
    "state": _state,
    "forgetting": _forgetting,
    "tasks": _tasks,
    "rounds": _rounds,
    "versions": _versions,
    "values": values.panel,
}


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
        context["may_lead"] = operator.may(Role.LEAD)
        context["learners"] = Learner.objects.order_by("name")
        for part in _PARTS.values():
            context |= part(chosen)
        curves = forgetting.success_by_version(chosen)
        context |= {"curves": curves, "task": _task(request, curves)}
    return render(request, "learning/learner.html", context)


@require_GET
@operator_page()
def fragment(request: HttpRequest, operator: Operator, part: str) -> HttpResponse:
    """One part of the page, as the page holds it."""
    chosen = _chosen(request)
    if chosen is None:
        return HttpResponse(status=404)
    return render(request, f"learning/_{part}.html", {"learner": chosen} | _PARTS[part](chosen))


@require_GET
@operator_page()
def figures(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every figure of the page as JSON; null where there is nothing to draw."""
    chosen = _chosen(request)
    if chosen is None:
        return JsonResponse({})
    points = metrics.curve(chosen)
    curves = forgetting.success_by_version(chosen)
    return JsonResponse(
        {
            "success": charts.success(metrics.success_curve()),
            "versions": charts.versions(curves, task=_task(request, curves)),
            "loss": charts.loss(points),
            "omega": charts.omega(points),
            "buffers": charts.buffers(points),
        }
    )


def _task(request: HttpRequest, curves: list[forgetting.TaskCurve]) -> str:
    """Return the task whose curve is asked for; empty is all of them."""
    task = request.GET.get("task", "")
    return task if task in {curve.task for curve in curves} else ""


@require_http_methods(["GET", "POST"])
@operator_page()
def switch(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """The button that starts or pauses a learner: a fragment. POST presses it, for leads."""
    try:
        chosen = learner_named(name)
        if request.method == "POST":
            require_role(operator, Role.LEAD)
            wanted = request.POST.get("state")
            chosen = (start_learner if wanted == "running" else pause_learner)(name)
    except NotFound as error:
        raise Http404(str(error)) from None
    if request.method == "POST" and not request.htmx:
        return redirect("learning:learner")
    context = {"learner": chosen, "may_lead": operator.may(Role.LEAD)}
    response = render(request, "learning/_switch.html", context)
    if request.method == "POST":
        response["HX-Trigger"] = "learner:switched"
    return response
