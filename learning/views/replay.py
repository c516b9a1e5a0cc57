"""A recorded episode for the replay player: its series as JSON, its pictures as JPEG and in packs.

What a closed episode holds never changes, so pictures may be kept for ever; what people and value
functions say of it does, so the series may not.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET

from fleet.models import Operator
from fleet.views.pages import operator_page
from learning.exceptions import LearningError
from learning.selectors.frames import frame_at, pack_of
from learning.selectors.replay import closed_episode, replay_of

logger = logging.getLogger(__name__)

# A year; private: who may see it is checked, and a proxy must not answer for us.
KEEP_FOR_EVER = "private, max-age=31536000, immutable"
PACK_TYPE = "application/vnd.sop.frames"


def said_as_json(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer a refusal as `{"code", "reason"}` with its status, as the API does."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except LearningError as error:
            if error.status == 503:
                logger.warning("%s %s: %s", request.method, request.path, error)
            answer = JsonResponse({"code": error.code, "reason": str(error)}, status=error.status)
            answer["Cache-Control"] = "no-store"
            return answer

    return wrapped


@require_GET
@operator_page()
@said_as_json
def replay(request: HttpRequest, operator: Operator, uid: UUID) -> HttpResponse:
    """Everything a replay shows but its pictures."""
    answer = JsonResponse(replay_of(closed_episode(uid)))
    answer["Cache-Control"] = "no-store"
    return answer


@require_GET
@operator_page()
@said_as_json
def frame(
    request: HttpRequest, operator: Operator, uid: UUID, camera: str, step: int
) -> HttpResponse:
    """The picture a camera had at a step, as JPEG."""
    return _kept(frame_at(closed_episode(uid), camera, step), "image/jpeg")


@require_GET
@operator_page()
@said_as_json
def pack(
    request: HttpRequest, operator: Operator, uid: UUID, camera: str, index: int
) -> HttpResponse:
    """The pictures of many steps in one body, see `learning.selectors.frames.pack_of`."""
    return _kept(pack_of(closed_episode(uid), camera, index), PACK_TYPE)


def _kept(data: bytes, kind: str) -> HttpResponse:
    answer = HttpResponse(data, content_type=kind)
    answer["Cache-Control"] = KEEP_FOR_EVER
    return answer
