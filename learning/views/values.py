"""The button on the learner page that fits a value function, or stops the one being fitted."""

from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from fleet.models import Operator, Role
from fleet.selectors.access import require_role
from fleet.views.pages import operator_page
from learning import tasks
from learning.exceptions import Conflict, NotFound
from learning.models import Learner
from learning.selectors.learners import learner_named
from learning.selectors.values import (
    sha256_on_robots,
    unfinished_value,
    value_numbered,
    value_versions,
)
from learning.services.values import cancel_value, request_value

VALUES_SHOWN = 5


def panel(learner: Learner) -> dict[str, Any]:
    """Return what the panel of value functions shows."""
    return {
        "values": list(value_versions(learner)[:VALUES_SHOWN]),
        "unfinished": unfinished_value(learner),
        "on_robots": sha256_on_robots(),
    }


@require_http_methods(["GET", "POST"])
@operator_page()
def value(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """The button: a fragment. POST asks for a value function or cancels `cancel`, for leads."""
    try:
        learner = learner_named(name)
        if request.method == "POST":
            require_role(operator, Role.LEAD)
            _press(learner, request.POST.get("cancel", ""))
    except NotFound as error:
        raise Http404(str(error)) from None
    if request.method == "POST" and not request.htmx:
        return redirect("learning:learner")
    context = {"learner": learner, "may_lead": operator.may(Role.LEAD), **panel(learner)}
    response = render(request, "learning/_value_switch.html", context)
    if request.method == "POST":
        response["HX-Trigger"] = "learner:valued"
    return response


def _press(learner: Learner, cancel: str) -> None:
    if not cancel.isdecimal():
        request_value(learner)
        tasks.enqueue_value_work()
        return
    try:
        cancel_value(value_numbered(learner, int(cancel)))
    except Conflict:
        return  # it was done a moment ago, as the panel now shows
