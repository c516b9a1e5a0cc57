"""One policy version: where it comes from, what it did, what it learned from."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot
from fleet.views.pages import operator_page
from learning.selectors.evaluations import version_name
from learning.selectors.lineage import deeds, versions_numbered

_MAX_NUMBER = 2**31 - 1


@require_GET
@operator_page()
def version(request: HttpRequest, operator: Operator, number: int) -> HttpResponse:
    """A version by its number; where several learners have it, `learner` says whose."""
    rows = list(versions_numbered(number)) if number <= _MAX_NUMBER else []
    name = request.GET.get("learner", "")
    if name:
        rows = [row for row in rows if row.learner.name == name]
    if not rows:
        raise Http404(f"no policy version has the number {number}" + (f" in {name}" * bool(name)))
    context = {"section": "learner", "operator": operator, "number": number, "rows": rows}
    if len(rows) == 1:
        row = rows[0]
        context |= {
            "version": row,
            "name": version_name(row),
            "deeds": deeds(row),
            "children": row.children.order_by("number"),
            "robots": Robot.objects.filter(reported_sha256=row.sha256).order_by("name"),
        }
    return render(request, "learning/version.html", context)
