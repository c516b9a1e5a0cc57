"""The least that tests need: one robot, one task, and the cast every permission test has ready."""

import itertools
from dataclasses import dataclass

from django.contrib.auth.models import User

from fleet.models import FleetSettings, Operator, OperatorKind, Robot, Role, Task
from fleet.models.tokens import hash_token

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cast:
    """One of each role, and one who is signed in but no operator. Passwords equal the names."""

    viewer: Operator
    labeller: Operator
    operator: Operator
    lead: Operator
    admin: Operator
    outsider: User


def make_user(name: str) -> User:
    return User.objects.create_user(name, password=name)


def make_operator(name: str = "", *, role: Role = Role.OPERATOR, token: str = "") -> Operator:
    """A scripted one when it has a token, a person otherwise."""
    return Operator.objects.create(
        user=make_user(name or f"operator{next(_numbers)}"),
        role=role,
        kind=OperatorKind.SCRIPTED if token else OperatorKind.HUMAN,
        token_hash=hash_token(token) if token else None,
    )


def make_cast() -> Cast:
    admin = make_operator("admin", role=Role.ADMIN)
    admin.user.is_staff = admin.user.is_superuser = True
    admin.user.save()
    return Cast(
        viewer=make_operator("viewer", role=Role.VIEWER),
        labeller=make_operator("labeller", role=Role.LABELLER),
        operator=make_operator("operator", role=Role.OPERATOR),
        lead=make_operator("lead", role=Role.LEAD),
        admin=admin,
        outsider=make_user("outsider"),
    )


def make_task(name: str = "", **fields: object) -> Task:
    name = name or f"task-{next(_numbers)}"
    return Task.objects.create(
        name=name, **{"instruction": f"do {name}", "family": "test", **fields}
    )


def make_robot(name: str = "", *, token: str = "", **fields: object) -> Robot:
    """A robot whose token is `token`, or its own name."""
    name = name or f"arm-{next(_numbers):02d}"
    return Robot.objects.create(name=name, token_hash=hash_token(token or name), **fields)


def make_fleet_settings(**fields: object) -> FleetSettings:
    settings, _ = FleetSettings.objects.update_or_create(pk=1, defaults=fields)
    return settings
