"""Who may touch what: views and consumers obtain operators and robots here and nowhere else."""

from typing import Any

from fleet.exceptions import NotAllowed, RobotUnknown
from fleet.models import Operator, Robot, Role
from fleet.models.tokens import hash_token


def access_operator(user: Any, role: Role = Role.VIEWER) -> Operator:
    """Return the operator behind a signed-in user with at least `role`. Raises NotAllowed."""
    if not getattr(user, "is_authenticated", False) or not user.is_active:
        raise NotAllowed("sign in first")
    operator = Operator.objects.select_related("user").filter(user=user).first()
    if operator is None:
        raise NotAllowed("this account is not an operator of the fleet")
    return require_role(operator, role)


def require_role(operator: Operator, role: Role) -> Operator:
    """Return `operator` when it has at least `role`. Raises NotAllowed."""
    if not operator.may(role):
        raise NotAllowed(
            f"needs the role {Role(role).label.lower()}; {operator} is {operator.role}"
        )
    return operator


def access_operator_by_token(token: str) -> Operator:
    """Return the scripted operator whose token this is. Raises NotAllowed."""
    operator = (
        Operator.objects.select_related("user")
        .filter(token_hash=hash_token(token), user__is_active=True)
        .first()
    )
    if operator is None:
        raise NotAllowed("unknown operator token")
    return operator


def access_robot_by_token(token: str) -> Robot:
    """Return the enabled robot whose token this is. Raises RobotUnknown."""
    robot = Robot.objects.filter(token_hash=hash_token(token), enabled=True).first()
    if robot is None:
        raise RobotUnknown("unknown robot token")
    return robot


def access_robot(user: Any, name: str, role: Role = Role.VIEWER) -> Robot:
    """Return the robot `name` for a user with at least `role`. Raises NotAllowed, RobotUnknown."""
    access_operator(user, role)
    robot = Robot.objects.filter(name=name).first()
    if robot is None:
        raise RobotUnknown(f"there is no robot {name}")
    return robot
