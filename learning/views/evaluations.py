"""Evaluations: the list with the form that asks for one, and one evaluation with its results."""

from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fleet.models import Operator, Role, Task
from fleet.phrases import sentence
from fleet.selectors.access import require_role
from fleet.views.pages import operator_page
from learning import charts
from learning.exceptions import NotFound, Unprocessable
from learning.forms.evaluations import EvaluationForm
from learning.models import Evaluation, Learner
from learning.selectors import exports
from learning.selectors.evaluations import (
    evaluation_of,
    progress,
    recent_evaluations,
    results,
    version_name,
)
from learning.selectors.learners import published
from learning.services.evaluations import cancel_evaluation, request_evaluation

EVALUATIONS_A_PAGE = 30
VERSIONS_OFFERED = 50


def _found(uid: UUID) -> Evaluation:
    try:
        return evaluation_of(uid)
    except NotFound as error:
        raise Http404(str(error)) from None


@require_http_methods(["GET", "POST"])
@operator_page()
def evaluations(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every evaluation, newest first. POST asks for a new one, for leads."""
    enabled = Task.objects.filter(enabled=True).values_list("name", flat=True)
    form = EvaluationForm(initial={"tasks": list(enabled)})
    if request.method == "POST":
        require_role(operator, Role.LEAD)
        form = EvaluationForm(request.POST)
        if form.is_valid():
            values = form.cleaned_data | {"tasks": list(form.cleaned_data["tasks"])}
            try:
                asked = request_evaluation(operator=operator, **values)
                return redirect("learning:evaluation", uid=asked.uid)
            except Unprocessable as error:
                form.add_error(None, sentence(error))
    page = Paginator(recent_evaluations(), EVALUATIONS_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "section": "evaluations",
        "operator": operator,
        "may_lead": operator.may(Role.LEAD),
        "form": form,
        "page": page,
        "rows": [{"evaluation": row, "progress": progress(row)} for row in page],
        "offered": _offered(),
    }
    return render(request, "learning/evaluations.html", context, status=400 if form.errors else 200)


def _offered() -> list[str]:
    """Return the newest versions of each learner as the form's suggestions."""
    return [
        version_name(version)
        for learner in Learner.objects.order_by("name")
        for version in published(learner).select_related("learner")[:VERSIONS_OFFERED]
    ]


def _context(evaluation: Evaluation, operator: Operator) -> dict[str, Any]:
    lines = results(evaluation)
    return {
        "evaluation": evaluation,
        "progress": progress(evaluation),
        "lines": lines,
        "names": [version_name(version) for version in evaluation.versions],
        "may_lead": operator.may(Role.LEAD),
    }


@require_GET
@operator_page()
def evaluation(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """One evaluation: what was declared, how far it is, what it shows."""
    found = _found(uid)
    context = {"section": "evaluations", "operator": operator, **_context(found, operator)}
    tasks = found.tasks.order_by("name")
    return render(request, "learning/evaluation.html", context | {"tasks": tasks})


@require_GET
@operator_page()
def fragment(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """Progress and results, as the page holds them; they reload until the evaluation has ended."""
    return render(request, "learning/_evaluation.html", _context(_found(uid), operator))


@require_POST
@operator_page(Role.LEAD)
def cancel(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """End an evaluation now, for leads."""
    found = cancel_evaluation(_found(uid), operator=operator)
    return redirect(reverse("learning:evaluation", kwargs={"uid": found.uid}))


@require_GET
@operator_page()
def figures(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """The picture as JSON; null before the first trial."""
    found = _found(uid)
    names = [version_name(version) for version in found.versions]
    return JsonResponse({"evaluation": charts.evaluation(results(found), names)})


@require_GET
@operator_page()
def export(request: HttpRequest, operator: Operator, uid: UUID, kind: str) -> HttpResponse:
    """Everything as JSON, or a row a trial as CSV, to keep."""
    found = _found(uid)
    if kind == "json":
        answer: HttpResponse = JsonResponse(exports.export(found), json_dumps_params={"indent": 1})
    elif kind == "csv":
        answer = HttpResponse(exports.as_csv(found), content_type="text/csv; charset=utf-8")
    else:
        raise Http404(f"evaluations are exported as json and csv, not {kind}")
    answer["Content-Disposition"] = f'attachment; filename="evaluation-{found.uid}.{kind}"'
    return answer
