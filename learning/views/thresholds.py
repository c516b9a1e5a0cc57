"""Thresholds: a slider a task that shows at once how many steps turn positive."""

import msgspec
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from fleet.models import Operator, Role
from fleet.phrases import said
from fleet.views.pages import operator_page
from learning import tasks
from learning.exceptions import LearningError, NotFound
from learning.models import Learner
from learning.selectors import thresholds
from learning.selectors.learners import learner_named
from learning.selectors.values import newest_done
from learning.services.values import move_task_threshold
from learning.views.replay import said_as_json


@require_GET
@operator_page()
def page(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every learner with a value function, and a slider for each of its tasks."""
    found = []
    for learner in Learner.objects.order_by("name"):
        value = newest_done(learner)
        last = value.thresholds.order_by("-number").first() if value else None
        if value is None or last is None:
            continue
        sliders = [
            (task, round(100 * thresholds.share_of(last, task)))
            for task in thresholds.tasks_with_thresholds(value)
        ]
        found.append({"learner": learner, "value": value, "last": last, "sliders": sliders})
    context = {"section": "label", "operator": operator, "learners": found}
    return render(
        request, "learning/thresholds.html", context | {"may_lead": operator.may(Role.LEAD)}
    )


@require_GET
@operator_page()
@said_as_json
def preview(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """Positive steps of `task` at each percent: JSON."""
    learner = learner_named(name)
    found = thresholds.preview(learner, request.GET.get("task", "").replace("\x00", ""))
    if found is None:
        raise NotFound("no judged episode of this task has values yet")
    answer = JsonResponse(msgspec.to_builtins(found))
    answer["Cache-Control"] = "no-store"
    return answer


@require_POST
@operator_page(Role.LEAD)
def move(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """Move the threshold of `task` to `percent`; a worker derives the indicators."""
    task, percent = request.POST.get("task", ""), request.POST.get("percent", "")
    try:
        if not (percent.isdecimal() and len(percent) <= 2):
            raise LearningError("a share is a whole number of percent, 1 to 99")
        move_task_threshold(learner_named(name), task=task, positive=int(percent) / 100)
    except LearningError as error:
        why = said(str(error))
        messages.error(request, _("The threshold was not moved: %(why)s.") % {"why": why})
    else:
        tasks.enqueue_value_work()
        words = _("%(task)s: %(percent)s %% of the free steps are asked to be positive.")
        messages.success(request, words % {"task": task, "percent": percent})
    return redirect(reverse("learning:thresholds"))
