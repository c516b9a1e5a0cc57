"""What people say of a correction just made, from the robot page and the episode page: JSON."""

from typing import Annotated
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_http_methods
from msgspec import Meta, Struct

from fleet.models import Operator, Role
from fleet.views.pages import operator_page
from learning.exceptions import Forbidden
from learning.selectors.corrections import as_json, correction_of
from learning.services.corrections import Change, review_span, undo_review
from learning.views.bodies import body_of
from learning.views.replay import said_as_json

Steps = Annotated[int, Meta(ge=0, lt=2**31)]


class Entry(Struct, frozen=True, kw_only=True):
    """One change, or with `undoes` the taking back of one; `uid` names it: sent twice, it counts
    once. What is left out stays as it is.
    """

    uid: UUID
    mark: Annotated[str, Meta(max_length=16)] | None = None
    discarded: bool | None = None
    # Steps cut off the beginning and the end.
    trim: tuple[Steps, Steps] | None = None
    note: Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")] = ""
    undoes: UUID | None = None
    # Whose page sent it; empty: whoever is signed in.
    by: Annotated[str, Meta(max_length=150)] = ""


@require_http_methods(["GET", "POST"])
@operator_page()
@said_as_json
def correction(
    request: HttpRequest, operator: Operator, robot: str, epoch: int, uid: UUID
) -> HttpResponse:
    """What is in force of one span of control; POST changes it, for operators."""
    if request.method == "POST":
        if not operator.may(Role.OPERATOR):
            raise Forbidden(f"needs the role operator; {operator.name} is {operator.role}")
        entry = body_of(request, Entry, what="a change of a correction")
        if entry.by and entry.by != operator.name:
            raise Forbidden(f"this is {entry.by}'s page and {operator.name} is signed in")
        span = {"robot": robot, "episode_uid": uid, "epoch": epoch, "operator": operator}
        if entry.undoes is not None:
            found = undo_review(**span, undoes=entry.undoes, uid=entry.uid)
        else:
            change = Change(entry.mark, entry.discarded, entry.trim)
            found = review_span(**span, change=change, uid=entry.uid, note=entry.note)
    else:
        found = correction_of(robot=robot, episode_uid=uid, epoch=epoch)
    answer = JsonResponse(as_json(found))
    answer["Cache-Control"] = "no-store"
    return answer
