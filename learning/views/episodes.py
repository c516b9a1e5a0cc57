"""The list of episodes: what was recorded, how it ended, who corrected it."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot, Task
from fleet.views.pages import operator_page
from learning.models import Episode
from learning.models.episodes import Outcome, Purpose

EPISODES_A_PAGE = 50
FILTERS = ("task", "robot", "purpose", "outcome", "corrected")


@require_GET
@operator_page()
def episodes(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Episodes, newest first, filtered by task, robot, purpose and outcome."""
    chosen = {key: request.GET.get(key, "") for key in FILTERS}
    rows = Episode.objects.select_related("robot", "task").prefetch_related("interventions")
    if chosen["task"]:
        rows = rows.filter(task__name=chosen["task"])
    if chosen["robot"]:
        rows = rows.filter(robot__name=chosen["robot"])
    if chosen["purpose"]:
        rows = rows.filter(purpose=chosen["purpose"])
    if chosen["outcome"]:
        rows = rows.filter(outcome_in_force=chosen["outcome"])
    if chosen["corrected"]:
        rows = rows.filter(human_steps__gt=0)
    page = Paginator(rows.order_by("-started_at", "-id"), EPISODES_A_PAGE).get_page(
        request.GET.get("page")
    )
    query = request.GET.copy()
    query.pop("page", None)
    return render(
        request,
        "learning/episodes.html",
        {
            "section": "episodes",
            "operator": operator,
            "page": page,
            "query": query.urlencode(),
            "chosen": chosen,
            "any_filter": any(chosen.values()),
            "tasks": Task.objects.order_by("name"),
            "robots": Robot.objects.order_by("name"),
            "purposes": Purpose.choices,
            "outcomes": Outcome.choices,
        },
    )
