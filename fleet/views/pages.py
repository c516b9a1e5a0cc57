"""The fleet page, the robot page and their fragments."""

from functools import wraps
from typing import Any, Protocol

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from fleet.exceptions import NotAllowed, Refusal, RobotUnknown
from fleet.models import Operator, Role
from fleet.phrases import sentence
from fleet.selectors import pages
from fleet.selectors.access import access_operator, access_robot, require_role
from fleet.services.robots import change_settings
from fleet.services.saved_views import remove_view, save_view


class Page(Protocol):
    """A view that is given the operator who asks."""

    def __call__(self, request: HttpRequest, operator: Operator, **kwargs: Any) -> HttpResponse:
        """Answer the request."""


def refused(request: HttpRequest, error: Refusal) -> HttpResponse:
    """Return a page that says what was refused and what to do next."""
    unknown = isinstance(error, RobotUnknown)
    return render(
        request,
        "refused.html",
        {
            "title": _("No such robot") if unknown else _("Not allowed"),
            "reason": sentence(error),
            "next_step": _("The fleet page lists every robot.")
            if unknown
            else _("Ask an administrator for the role, or sign in with another account."),
        },
        status=404 if unknown else 403,
    )


def operator_page(role: Role = Role.VIEWER) -> Any:
    """Decorate a view: signed in, an operator of at least `role`, refusals as pages."""

    def decorate(view: Page) -> Any:
        @login_required
        @wraps(view)
        def wrapped(request: HttpRequest, **kwargs: Any) -> HttpResponse:
            try:
                operator = require_role(access_operator(request.user), role)
                return view(request, operator, **kwargs)
            except (NotAllowed, RobotUnknown) as error:
                return refused(request, error)

        return wrapped

    return decorate


@require_GET
@operator_page()
def fleet(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Every robot on one wall."""
    return render(
        request,
        "fleet/fleet.html",
        {
            "section": "fleet",
            "operator": operator,
            "may_drive": operator.may(Role.OPERATOR),
            "tiles": pages.tiles(),
            "tasks": pages.task_names(),
            "sites": pages.sites(),
            "saved_views": operator.saved_views.all(),
            "scripted": pages.scripted(),
            "help": pages.help_panel(operator),
        },
    )


@require_POST
@operator_page()
def saved_views(request: HttpRequest, operator: Operator) -> HttpResponse:
    """Save the wall's view under a name, or remove one: a fragment."""
    error = ""
    try:
        if "remove" in request.POST:
            remove_view(operator=operator, name=request.POST["remove"])
        else:
            save_view(
                operator=operator,
                name=request.POST.get("name", "").strip(),
                query=request.POST.get("query", ""),
            )
    except Refusal as refusal:
        error = str(refusal)
    if not request.htmx and not error:
        return redirect("fleet:fleet")
    return render(
        request,
        "fleet/_views.html",
        {"saved_views": operator.saved_views.all(), "views_error": error},
    )


@require_GET
@operator_page()
def robot(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """One robot: its cameras, its controls, its machine."""
    row = access_robot(request.user, name)
    cameras = pages.cameras_of(row)
    return render(
        request,
        "fleet/robot.html",
        {
            "section": "fleet",
            "operator": operator,
            "may_drive": operator.may(Role.OPERATOR),
            "robot": row,
            "cameras": cameras,
            "heading_known": bool(cameras) and cameras[0].get("heading_rad") is not None,
            "value_names": row.spec.get("state_names", [])[:4],
            "timeout_ticks": pages.longest_timeout_ticks(),
        },
    )


@require_GET
@operator_page()
def robot_policies(request: HttpRequest, operator: Operator, name: str) -> HttpResponse:
    """What became of the newest versions on this robot: a fragment."""
    row = access_robot(request.user, name)
    return render(
        request, "fleet/_policies.html", {"robot": row, "reports": pages.policy_reports(row)}
    )


@require_http_methods(["GET", "POST"])
@operator_page()
def scripted(request: HttpRequest, operator: Operator) -> HttpResponse:
    """The scripted operators: a fragment. POST pauses or resumes all of them, for operators."""
    if request.method == "POST":
        require_role(operator, Role.OPERATOR)
        change_settings(scripted_paused=request.POST.get("paused") == "1")
        if not request.htmx:
            return redirect("fleet:fleet")
    context = {"scripted": pages.scripted(), "may_drive": operator.may(Role.OPERATOR)}
    return render(request, "fleet/_scripted.html", context)
