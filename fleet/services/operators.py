"""Operators' rows: people with passwords, scripts with tokens."""

import secrets

from django.contrib.auth.models import User
from django.db import transaction

from fleet.models import Operator, OperatorKind, Role
from fleet.models.tokens import hash_token, new_token


def register_person(
    *, name: str, role: Role, password: str | None = None
) -> tuple[Operator, str | None]:
    """Return the operator `name` and the password it got; None when the account existed.

    Without `password` a random one is made; it is returned this once. An admin may use Django's
    admin pages.
    """
    with transaction.atomic():
        user, created = User.objects.get_or_create(username=name)
        given = None
        if created:
            given = password or secrets.token_urlsafe(9)
            user.set_password(given)
            user.is_staff = user.is_superuser = role == Role.ADMIN
            user.save()
        operator, _ = Operator.objects.get_or_create(user=user, defaults={"role": role})
    return operator, given


def register_script(*, name: str, keep: bool = False) -> str | None:
    """Make sure that the scripted operator `name` exists, and return its token, this once.

    With `keep`, an existing one keeps its token and None is returned; otherwise it gets a new one.
    """
    with transaction.atomic():
        user, _ = User.objects.get_or_create(username=name)
        operator, created = Operator.objects.get_or_create(
            user=user, defaults={"kind": OperatorKind.SCRIPTED, "role": Role.OPERATOR}
        )
        if keep and not created:
            return None
        token = new_token()
        operator.token_hash = hash_token(token)
        operator.full_clean()
        operator.save()
    return token
