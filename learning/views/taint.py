"""Tracing bad data: which versions learned from it, and rebuilding a learner from before it."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from fleet.models import Operator, Role
from fleet.phrases import sentence
from fleet.views.pages import operator_page
from learning.exceptions import NotFound, Unprocessable
from learning.forms.taint import SuspectForm
from learning.models import Learner
from learning.selectors.learners import learner_named
from learning.selectors.taint import suspected, trace
from learning.services.rebuilds import rebuild
from learning.views.rollouts import page_of

EPISODES_SHOWN = 20


@require_GET
@operator_page()
def taint(request: HttpRequest, operator: Operator) -> HttpResponse:
    """What is thought to be bad, and for each learner which versions learned from it."""
    form = SuspectForm(request.GET if request.GET else None)
    context: dict[str, Any] = {
        "section": "policies",
        "operator": operator,
        "may_lead": operator.may(Role.LEAD),
        "form": form,
    }
    if form.is_bound and form.is_valid():
        episodes = suspected(form.suspect())
        context |= {
            "asked": True,
            "count": episodes.count(),
            "excluded": episodes.filter(exclusion__isnull=False).count(),
            "episodes": episodes.select_related("task").order_by("-started_at")[:EPISODES_SHOWN],
            "traces": [trace(row, episodes) for row in Learner.objects.order_by("name")],
            "fields": [(key, value) for key, value in request.GET.items() if value],
        }
    status = 400 if form.is_bound and form.errors else 200
    return render(request, "learning/taint.html", context, status=status)


@require_POST
@operator_page(Role.LEAD)
def rebuild_learner(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """Exclude the suspected episodes and rebuild a learner from before them."""
    try:
        learner = learner_named(name)
    except NotFound as error:
        raise Http404(str(error)) from None
    form = SuspectForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Nothing was changed: name what is bad once more."))
        return redirect("learning:taint")
    try:
        reason = request.POST.get("reason", "")[:500]
        done = rebuild(learner, form.suspect(), operator=operator, reason=reason)
    except Unprocessable as error:
        messages.error(request, sentence(error))
        return redirect(reverse("learning:taint"))
    messages.success(
        request,
        ngettext(
            "%(n)s episode is excluded from now on; %(name)s goes on from"
            " v%(number)s, announced to %(robots)s robots.",
            "%(n)s episodes are excluded from now on; %(name)s goes on from"
            " v%(number)s, announced to %(robots)s robots.",
            done.excluded,
        )
        % {
            "n": done.excluded,
            "name": learner.name,
            "number": done.origin.number,
            "robots": len(done.robots),
        },
    )
    return redirect(page_of(done.origin))
