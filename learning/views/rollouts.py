"""What leads do with a version: each change is shown robot by robot before it is made."""

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fleet.models import Operator, Role
from fleet.phrases import said as translated
from fleet.phrases import sentence
from fleet.views.pages import operator_page
from learning.exceptions import Conflict, LearningError, NotFound, Unprocessable
from learning.forms.rollouts import ChangeForm, DescribeForm, ModeForm
from learning.models import Canary, PolicyVersion
from learning.selectors.evaluations import version_name, version_named
from learning.selectors.learners import learner_named
from learning.selectors.rollouts import (
    canary_view,
    chosen_robots,
    moves,
    robots_for_canary,
    rollout_of,
    running_canary,
    share_of,
)
from learning.services import rollouts
from learning.services.canaries import cancel_canary, start_canary

_MAX_NUMBER = 2**31 - 1


def version_or_404(name: str, number: int) -> PolicyVersion:
    """Return a version by its learner's name and its number."""
    try:
        if number > _MAX_NUMBER:
            raise NotFound(f"{name} has no version {number}")
        return version_named(name, number)
    except NotFound as error:
        raise Http404(str(error)) from None


def page_of(version: PolicyVersion) -> str:
    """Return the address of a version's page."""
    path = reverse("learning:version", kwargs={"number": version.number})
    return f"{path}?learner={version.learner.name}"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or _("none")


def _first_error(form: Form) -> Unprocessable:
    field, texts = next(iter(form.errors.items()))
    name = translated(field).replace("_", " ")
    return Unprocessable(f"{name}: {texts[0].rstrip('.。')}")


@require_http_methods(["GET", "POST"])
@operator_page(Role.LEAD)
def change(request: HttpRequest, operator: Operator, name: str, number: int) -> HttpResponse:
    """GET shows which robots a change would move; POST makes it."""
    version = version_or_404(name, number)
    form = ChangeForm(request.POST if request.method == "POST" else request.GET)
    refusal = ""
    if form.is_valid():
        try:
            if request.method == "POST":
                messages.success(request, _make(form, version, operator))
                return redirect(page_of(version))
            preview = _preview(form, version)
            return render(request, "learning/change.html", _context(operator, version) | preview)
        except (Unprocessable, Conflict) as error:
            refusal = sentence(error)
    context = _context(operator, version) | {"form": form, "refusal": refusal}
    return render(request, "learning/change.html", context, status=400)


def _context(operator: Operator, version: PolicyVersion) -> dict[str, Any]:
    return {
        "section": "policies",
        "operator": operator,
        "version": version,
        "name": version_name(version),
        "back": page_of(version),
    }


def _preview(form: ChangeForm, version: PolicyVersion) -> dict[str, Any]:
    said, learner = form.cleaned_data, version.learner
    rollout = rollout_of(learner)
    names: list[str] | None = None
    if said["act"] == "canary":
        ready = robots_for_canary(learner)
        percent = said["share"] or rollout.share
        names = (
            form.names
            if said["whom"] == "robots"
            else share_of(ready, percent, key=learner.name)[: max(0, len(ready) - 1)]
        )
    elif said["act"] == "pin":
        names = form.names
    else:
        names = chosen_robots(
            learner,
            share=said["share"] if said["whom"] == "share" else None,
            robots=form.names if said["whom"] == "robots" else None,
        )
    terms = {field: getattr(rollout, field) for field in ("alpha", "margin", "episodes")}
    terms["limit_min"] = rollout.limit_min
    return {
        "act": said["act"],
        "moves": moves(version, names),
        "rollout": rollout,
        "open_canary": running_canary(learner),
        "terms": terms | form.terms,
        # What was shown is what is done: a share is confirmed as the robots it meant.
        "fixed": [
            (key, value)
            for key, value in form.data.lists()
            if key not in ("csrfmiddlewaretoken", "whom", "robots", "share")
        ],
        "whom": "all" if names is None else "robots",
        "names": names or [],
    }


def _make(form: ChangeForm, version: PolicyVersion, operator: Operator) -> str:
    said = form.cleaned_data
    robots = form.names if said["whom"] == "robots" else None
    share = said["share"] if said["whom"] == "share" else None
    by = {"operator": operator, "reason": said["reason"]}
    if said["act"] == "canary":
        found = start_canary(
            version, incumbent=said["incumbent"], robots=robots, **by, **form.terms
        )
        return _("v%(number)s runs on %(robots)s until it is judged.") % {
            "number": version.number,
            "robots": _listed(found.robots),
        }
    if said["act"] == "pin":
        pinned = rollouts.pin(version, robots=robots or [], **by)
        return _("Pinned to v%(number)s: %(robots)s.") % {
            "number": version.number,
            "robots": _listed(pinned),
        }
    told = rollouts.roll_out(version, share=share, robots=robots, **by)
    return _("v%(number)s announced to: %(robots)s. %(name)s is manual now.") % {
        "number": version.number,
        "robots": _listed(told),
        "name": version.learner.name,
    }


@require_POST
@operator_page(Role.LEAD)
def rollback(request: HttpRequest, operator: Operator, name: str, number: int) -> HttpResponse:
    """Put the fleet back to a version with one click."""
    version = version_or_404(name, number)
    try:
        reason = request.POST.get("reason", "")[:500]
        told = rollouts.roll_back(version, operator=operator, reason=reason)
        messages.success(
            request,
            _(
                "Back to v%(number)s, announced to: %(robots)s."
                " %(name)s is manual now: what it publishes waits for a lead."
            )
            % {
                "number": version.number,
                "robots": _listed(told),
                "name": version.learner.name,
            },
        )
    except Unprocessable as error:
        messages.error(request, sentence(error))
    return redirect(page_of(version))


@require_POST
@operator_page(Role.LEAD)
def describe(request: HttpRequest, operator: Operator, name: str, number: int) -> HttpResponse:
    """Replace the notes and tags of a version."""
    version = version_or_404(name, number)
    form = DescribeForm(request.POST)
    try:
        if not form.is_valid():
            raise _first_error(form)
        rollouts.describe(version, **form.cleaned_data)
        messages.success(request, _("Notes and tags are kept."))
    except Unprocessable as error:
        messages.error(request, sentence(error))
    return redirect(page_of(version))


@require_POST
@operator_page(Role.LEAD)
def mode(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """Choose what a learner's publishes do."""
    try:
        learner = learner_named(name)
    except NotFound as error:
        raise Http404(str(error)) from None
    form = ModeForm(request.POST)
    try:
        if not form.is_valid():
            raise _first_error(form)
        said = form.cleaned_data
        rollouts.set_mode(
            learner, said["mode"], operator=operator, reason=said["reason"], **form.terms
        )
        words = {"name": learner.name, "mode": translated(said["mode"])}
        messages.success(request, _("%(name)s is %(mode)s now.") % words)
    except LearningError as error:
        messages.error(request, sentence(error))
    return redirect("learning:policies")


@require_POST
@operator_page(Role.LEAD)
def unpin(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Let robots follow their learner again."""
    try:
        names = rollouts.unpin(robots=request.POST.getlist("robots")[:1000], operator=operator)
        messages.success(request, _("Unpinned: %(robots)s.") % {"robots": _listed(names)})
    except Unprocessable as error:
        messages.error(request, sentence(error))
    return redirect("learning:policies")


def _canary(uid: UUID) -> Canary:
    rows = Canary.objects.select_related("candidate__learner", "incumbent", "started_by__user")
    found = rows.filter(uid=uid).first()
    if found is None:
        raise Http404(f"there is no canary {uid}")
    return found


@require_POST
@operator_page(Role.LEAD)
def cancel(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """End a canary without a verdict."""
    canary = _canary(uid)
    ended = cancel_canary(canary, operator=operator, reason=request.POST.get("reason", "")[:500])
    words = {"number": canary.candidate.number, "state": translated(ended.state)}
    messages.success(request, _("The canary of v%(number)s is %(state)s.") % words)
    return redirect(page_of(canary.candidate))


@require_GET
@operator_page()
def canary(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """How a canary stands, as the version's page holds it; it reloads until there is a verdict."""
    context = {"view": canary_view(_canary(uid)), "may_lead": operator.may(Role.LEAD)}
    return render(request, "learning/_canary.html", context)
