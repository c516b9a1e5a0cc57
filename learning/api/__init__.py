"""The REST API, mounted at /api/: robots upload and fetch with it, experiments and scripts read.

Errors are `{"code", "reason"}` with a status that says whose turn it is: 4xx do not send that
again, 503 send it again later.
"""

import logging

from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError

from fleet.exceptions import NotAllowed, Refusal, RobotUnknown
from learning.api import episodes, evaluations, learners, policies, values
from learning.exceptions import LearningError, MissingParts

logger = logging.getLogger(__name__)

api = NinjaAPI(
    title="SOP",
    version="1",
    description="Episodes in, policies out. See docs/protocol.md.",
    urls_namespace="api",
    # Its page loads scripts from a CDN; the schema is at openapi.json.
    docs_url=None,
)
api.add_router("/episodes", episodes.router)
api.add_router("/policies", policies.router)
api.add_router("/learners", learners.router)
api.add_router("/learners", values.router)
api.add_router("/values", values.weights_router)
api.add_router("/evaluations", evaluations.router)


def _answer(
    request: HttpRequest, status: int, code: str, reason: str, **more: object
) -> HttpResponse:
    response = api.create_response(request, {"code": code, "reason": reason, **more}, status=status)
    if status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if status == 503:
        response["Retry-After"] = "5"
    return response


@api.exception_handler(LearningError)
def _refused(request: HttpRequest, error: LearningError) -> HttpResponse:
    if error.status == 503:
        logger.warning("%s %s: %s", request.method, request.path, error)
    more = {"missing": error.missing} if isinstance(error, MissingParts) else {}
    return _answer(request, error.status, error.code, str(error), **more)


@api.exception_handler(Refusal)
def _refused_by_fleet(request: HttpRequest, error: Refusal) -> HttpResponse:
    status = {NotAllowed: 403, RobotUnknown: 401}.get(type(error), 409)
    return _answer(request, status, error.code, str(error))


@api.exception_handler(AuthenticationError)
def _unauthenticated(request: HttpRequest, _error: AuthenticationError) -> HttpResponse:
    return _answer(request, 401, "unauthenticated", "a known token, or a session, is needed")


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    first = error.errors[0] if error.errors else {}
    where = ".".join(str(part) for part in first.get("loc", ()))
    return _answer(request, 422, "unprocessable", f"{where}: {first.get('msg', 'invalid')}")


@api.exception_handler(HttpError)
def _http(request: HttpRequest, error: HttpError) -> HttpResponse:
    return _answer(request, error.status_code, "refused", str(error))


@api.exception_handler(Http404)
def _nothing_here(request: HttpRequest, _error: Http404) -> HttpResponse:
    return _answer(request, 404, "not_found", "nothing is here")
