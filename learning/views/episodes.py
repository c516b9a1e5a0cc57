"""The episode browser: search, one page of what was found, and the selection as a file."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET

from fleet.models import Operator, Robot, Task
from fleet.phrases import said
from fleet.views.pages import operator_page
from learning.forms.search import SearchForm
from learning.models import Episode
from learning.selectors.exports import episode_lines
from learning.selectors.search import find

# Shown when one of them is in use; the others always are.
_MORE = (
    "corrected", "marked", "labelled", "by", "since", "until", "policy_from", "policy_to", "made",
    "trained",
)  # fmt: skip
# Not filters: what the address says of the list's order and place.
_PLACE = ("sort", "after", "before")


def _address(form: SearchForm, *, leave_out: tuple[str, ...] = (), **changed: str) -> str:
    """Return the query of an address: what the form was given, without its empty fields."""
    query = QueryDict(mutable=True)
    for name in form.fields:
        value = changed.get(name, form.data.get(name, "").strip())
        if value and name not in leave_out and (name, value) != ("sort", "newest"):
            query[name] = value
    return query.urlencode()


def _chips(form: SearchForm) -> list[dict[str, str]]:
    """Return every active filter in words, with the address of the list without it."""
    chips = []
    for name, field in form.fields.items():
        value = form.data.get(name, "").strip()
        if not value or name in _PLACE:
            continue
        words = dict(getattr(field, "choices", ())).get(value, value)
        chips.append(
            {
                "label": field.label,
                "value": said(str(words).lower()) if words != value else value,
                "without": _address(form, leave_out=(name, "after", "before")),
            }
        )
    return chips


def _found(form: SearchForm) -> dict[str, Any]:
    """Return what the list shows: the page that was found, or what is wrong with the search."""
    context: dict[str, Any] = {
        "form": form,
        "chips": _chips(form),
        "selection": _address(form, leave_out=_PLACE),
    }
    if not form.is_valid():
        return context | {
            "wrong": [
                {
                    "label": form.fields[name].label,
                    "words": errors[0],
                    "without": _address(form, leave_out=(name, "after", "before")),
                }
                for name, errors in form.errors.items()
            ]
        }
    read = form.cleaned_data
    found = find(form.search(), after=read["after"] or None, before=read["before"] or None)
    place = ("after", "before")
    return context | {
        "found": found,
        "first": _address(form, leave_out=place),
        "newer": found.newer and _address(form, leave_out=("after",), before=str(found.newer)),
        "older": found.older and _address(form, leave_out=("before",), after=str(found.older)),
        "elsewhere": bool(read["after"] or read["before"]),
        "anything": bool(found.episodes) or bool(context["chips"]) or Episode.objects.exists(),
    }


@require_GET
@operator_page()
def episodes(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Episodes that match every filter of the address."""
    form = SearchForm(request.GET)
    context = _found(form) | {
        "section": "episodes",
        "operator": operator,
        "more": any(form.data.get(name) for name in _MORE),
        "tasks": Task.objects.order_by("name"),
        "robots": Robot.objects.order_by("name").values_list("name", flat=True),
        "names": Operator.objects.order_by("user__username").values_list(
            "user__username", flat=True
        ),
    }
    return render(request, "learning/episodes.html", context, status=400 if form.errors else 200)


@require_GET
@operator_page()
def found(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The list alone, while somebody changes filters; the browser's address follows.

    What is wrong with the filters is an answer here, not an error: htmx shows no others.
    """
    form = SearchForm(request.GET)
    response = render(request, "learning/_found.html", _found(form))
    query = _address(form)
    response["HX-Push-Url"] = reverse("learning:episodes") + (f"?{query}" if query else "")
    return response


@require_GET
@operator_page()
def export(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every episode of the selection as CSV, in the list's order, a thousand rows at a time."""
    form = SearchForm(request.GET)
    if not form.is_valid():
        return episodes(request)
    lines = episode_lines(form.search())
    response = StreamingHttpResponse(
        _async(lines) if isinstance(request, ASGIRequest) else lines,
        content_type="text/csv; charset=utf-8",
    )
    at = timezone.localtime().strftime("%Y%m%d-%H%M%S")
    response["Content-Disposition"] = f'attachment; filename="episodes-{at}.csv"'
    return response


async def _async(lines: Iterator[str]) -> AsyncIterator[str]:
    # Handed a plain iterator, Django's ASGI handler reads all of it before it sends anything.
    while (text := await sync_to_async(next)(lines, "")) != "":
        yield text
