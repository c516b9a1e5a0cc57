"""The dashboards: is it getting better, and what does it cost in people's time."""

import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot, Task
from fleet.views.pages import operator_page
from learning import charts
from learning.forms.dashboards import DashboardForm
from learning.selectors import dashboards, freshness
from learning.selectors.dashboards import Cell, Frame

# Name, title and explanation of each figure, in the page's order.
CHARTS = (
    ("success", _("Success"), _("held-out episodes, nobody helps · Wilson 95 %")),
    ("interventions", _("Interventions"), _("takeovers an episode of training")),
    ("human", _("Operator minutes"), _("people and scripted operators at the robots")),
    (
        "acted",
        _("Throughput of execution"),
        _("episodes ended an hour the policy or a person acted"),
    ),
    ("wall", _("Throughput of the clock"), _("successes an hour, resets and waiting included")),
    ("used", _("Use of the robots"), _("share of the time of robots that acted at all")),
)
_RATES: dict[str, Callable[[Cell], float | None]] = {
    "interventions_an_episode": lambda c: c.per_episode,
    "interventions_an_hour": lambda c: c.per_acted_hour,
    "operator_minutes": lambda c: c.human_minutes,
    "episodes_an_hour_of_execution": lambda c: c.per_hour_acted,
    "successes_an_hour_of_the_clock": lambda c: c.per_wall_hour,
    "share_of_time_acting": lambda c: c.used,
}


def _cells(form: DashboardForm, frame: Frame, now: datetime) -> list[Cell]:
    if form.cleaned_data["axis"] == "version":
        return dashboards.over_versions(frame)
    return dashboards.over_time(frame, now=now)


def _form(request: HttpRequest) -> DashboardForm:
    return DashboardForm({"range": "day", "axis": "time"} | request.GET.dict())


@require_GET
@operator_page()
def page(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The whole page; its figures come on their own and keep coming."""
    form = _form(request)
    context: dict[str, Any] = {
        "section": "dashboards",
        "operator": operator,
        "form": form,
        "tasks": Task.objects.order_by("name"),
        "robots": Robot.objects.order_by("name").values_list("name", flat=True),
        "sites": Robot.objects.exclude(site="")
        .order_by("site")
        .values_list("site", flat=True)
        .distinct(),
        "query": request.GET.urlencode(),
        "charts": CHARTS,
    }
    if form.is_valid():
        context |= _summary(form)
    return render(request, "learning/dashboards.html", context)


@require_GET
@operator_page()
def summary(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The figures in words: a fragment of the page."""
    form = _form(request)
    if not form.is_valid():
        return HttpResponse(status=204)
    return render(request, "learning/_summary.html", _summary(form))


@require_GET
@operator_page()
def figures(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every figure of the page as JSON; null where there is nothing to draw."""
    form = _form(request)
    if not form.is_valid():
        return JsonResponse({})
    now = timezone.now()
    frame = form.frame(now)
    cells = _cells(form, frame, now)
    drawn = charts.dashboard(
        cells, lambda cell: _episodes(frame, cell), between=(frame.since, frame.until)
    )
    return JsonResponse(drawn)


@require_GET
@operator_page()
def export(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The points of the page as a table."""
    form = _form(request)
    if not form.is_valid():
        return HttpResponse(form.errors.as_text(), status=400, content_type="text/plain")
    now = timezone.now()
    cells = _cells(form, form.frame(now), now)
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="dashboard.csv"'
    writer = csv.writer(response)
    names = dashboards.SUMS
    held_out = [f"held_out_{name}" for name in names]
    writer.writerow(
        ["at", "group", "robots", *names, *held_out, "held_out_success", "low", "high", *_RATES]
    )
    for cell in cells:
        rate = cell.success
        known = [rate.share, rate.low, rate.high] if rate.n else ["", "", ""]
        at = cell.at.isoformat() if isinstance(cell.at, datetime) else cell.at
        writer.writerow(
            [at, _safe(cell.group), cell.robots]
            + [counts[name] for counts in (cell.train, cell.held_out) for name in names]
            + known
            + ["" if (value := of(cell)) is None else value for of in _RATES.values()]
        )
    return response


def _summary(form: DashboardForm) -> dict[str, Any]:
    now = timezone.now()
    frame = form.frame(now)
    whole = dashboards.total(dashboards.over_time(frame, now=now))
    loads = dashboards.operators(frame)
    people = [load for load in loads if load.kind == "human"]
    return {
        "frame": frame,
        "whole": whole,
        "loads": loads,
        "effort": whole.effort_return(len(people) or len(loads)),
        "waiting": dashboards.waiting(frame),
        "fresh": freshness.correction_to_fleet(frame),
    }


def _safe(name: str) -> str:
    # A spreadsheet must not take a name for a formula.
    return f"'{name}" if name[:1] in ("=", "+", "-", "@", "\t", "\r") else name


def _episodes(frame: Frame, cell: Cell) -> str:
    """Return the address of the list of a point's episodes."""
    query: dict[str, Any] = {}
    if isinstance(cell.at, datetime):
        query["since"] = f"{cell.at:%Y-%m-%d}"
        query["until"] = f"{cell.at + frame.width - timedelta(microseconds=1):%Y-%m-%d}"
    else:
        query["policy_from"] = query["policy_to"] = cell.at
    if frame.task is not None:
        query["task"] = frame.task.name
    if frame.robot is not None:
        query["robot"] = frame.robot.name
    if frame.split in ("task", "robot") and cell.group:
        query[frame.split] = cell.group
    return f"{reverse('learning:episodes')}?{urlencode(query)}"
