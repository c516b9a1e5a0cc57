"""Who calls: a robot by its token, an operator by a session or by a token of its own."""

from django.http import HttpRequest
from ninja.security import HttpBearer, SessionAuth

from fleet.exceptions import NotAllowed, RobotUnknown
from fleet.models import Operator, Robot, Role
from fleet.selectors.access import (
    access_operator,
    access_operator_by_token,
    access_robot_by_token,
    require_role,
)
from learning.exceptions import BadToken, Forbidden


class RobotToken(HttpBearer):
    """A robot's bearer token; `request.auth` is the Robot."""

    def authenticate(self, request: HttpRequest, token: str) -> Robot:
        """Return the robot. Raises BadToken."""
        try:
            return access_robot_by_token(token)
        except RobotUnknown:
            raise BadToken("unknown robot token") from None


class AnyToken(HttpBearer):
    """A robot's or a scripted operator's bearer token; `request.auth` is the Robot or Operator."""

    def authenticate(self, request: HttpRequest, token: str) -> Robot | Operator:
        """Return who it is. Raises BadToken: a wrong token never falls back to a session."""
        try:
            return access_robot_by_token(token)
        except RobotUnknown:
            pass
        try:
            return access_operator_by_token(token)
        except NotAllowed:
            raise BadToken("unknown token") from None


class Session(SessionAuth):
    """A signed-in operator, with Django's CSRF check on writes; `request.auth` is the Operator."""

    def authenticate(self, request: HttpRequest, key: str | None) -> Operator | None:
        """Return the operator, or None for somebody who is not signed in. Raises NotAllowed."""
        if not request.user.is_authenticated:
            return None
        return access_operator(request.user)


ROBOT = RobotToken()
ANYONE = [AnyToken(), Session()]


def robot_of(request: HttpRequest) -> Robot:
    """Return the calling robot. Raises Forbidden for an operator."""
    if not isinstance(request.auth, Robot):
        raise Forbidden("only a robot may do this")
    return request.auth


def operator_of(request: HttpRequest, role: Role = Role.VIEWER) -> Operator:
    """Return the calling operator with at least `role`. Raises Forbidden and NotAllowed."""
    if not isinstance(request.auth, Operator):
        raise Forbidden("only an operator may do this")
    return require_role(request.auth, role)
