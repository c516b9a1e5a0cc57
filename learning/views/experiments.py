"""Past experiments, their plots and results."""

from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator
from fleet.views.pages import operator_page
from learning.exceptions import NotFound
from learning.selectors import experiments as past


@require_GET
@operator_page()
def experiments(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every experiment, newest first."""
    context = {"section": "experiments", "operator": operator, "experiments": past.experiments()}
    return render(request, "learning/experiments.html", context)


@require_GET
@operator_page()
def experiment(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """One experiment: its result, its picture, its table."""
    try:
        found = past.experiment_named(name)
    except NotFound as error:
        raise Http404(str(error)) from None
    table = past.table_of(found)
    return render(
        request,
        "learning/experiment.html",
        {
            "section": "experiments",
            "operator": operator,
            "experiment": found,
            "head": table[0] if table else [],
            "rows": table[1:],
        },
    )


@require_GET
@operator_page()
def file(request: HttpRequest, operator: Operator, name: str, file: str) -> HttpResponseBase:
    """One of the known files of an experiment."""
    try:
        path, kind = past.experiment_file(name, file)
    except NotFound as error:
        raise Http404(str(error)) from None
    return FileResponse(path.open("rb"), content_type=kind, filename=f"{name}-{file}")
