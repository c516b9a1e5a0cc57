"""The stop as a plain form: it must work without scripts, htmx, the learner and the store."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from fleet.exceptions import NotAllowed, RobotUnknown
from fleet.selectors.access import access_operator, access_robot
from fleet.services.stops import request_stop
from fleet.views.pages import refused


@require_POST
@login_required
def stop_fleet(request: HttpRequest) -> HttpResponse:
    """Stop every robot. Any operator may."""
    try:
        operator = access_operator(request.user)
    except NotAllowed as error:
        return refused(request, error)
    stop = request_stop(by=operator, every=True)
    if _wants_json(request):
        return JsonResponse({"stop_id": stop.stop_id})
    messages.warning(
        request,
        _("Stop sent to every robot. Each tile says Stopped when its robot confirmed it."),
    )
    return redirect("fleet:fleet")


@require_POST
@login_required
def stop_robot(request: HttpRequest, name: str) -> HttpResponse:
    """Stop one robot. Any operator may."""
    try:
        operator = access_operator(request.user)
        robot = access_robot(request.user, name)
    except (NotAllowed, RobotUnknown) as error:
        return refused(request, error)
    stop = request_stop(by=operator, robots=(robot.name,))
    if _wants_json(request):
        return JsonResponse({"stop_id": stop.stop_id})
    messages.warning(
        request,
        _("Stop sent to %(robot)s. It says Stopped when the robot confirmed it.")
        % {"robot": robot.name},
    )
    return redirect("fleet:robot", name=robot.name)


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"
