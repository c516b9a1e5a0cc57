"""Operators: the people and scripts that watch, judge and drive, and what each may do."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class OperatorKind(models.TextChoices):
    """Shown wherever an operator is named: a script is never passed off as a person."""

    HUMAN = "human"
    SCRIPTED = "scripted"


class Role(models.TextChoices):
    """Each role may do all that the ones before it may. Everybody may stop a robot."""

    VIEWER = "viewer"  # watch
    LABELLER = "labeller"  # judge finished episodes
    OPERATOR = "operator"  # drive, hold, resume, judge running episodes, release a stop
    LEAD = "lead"  # tasks, robots, learners, versions
    ADMIN = "admin"  # people


_RANK = {role: rank for rank, role in enumerate(Role)}


class Operator(models.Model):
    """A user of the console, or a script with a token of its own."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="operator"
    )
    kind = models.CharField(max_length=16, choices=OperatorKind.choices, default=OperatorKind.HUMAN)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.VIEWER)
    # SHA-256 of the bearer token; only scripts have one.
    token_hash = models.CharField(max_length=64, null=True, blank=True, unique=True)

    class Meta:
        ordering = ["user__username"]
        constraints = [
            models.CheckConstraint(
                name="operator_token_is_for_scripts",
                condition=Q(token_hash__isnull=True) | Q(kind="scripted"),
            ),
            models.CheckConstraint(
                name="operator_token_hash_not_empty",
                condition=~Q(token_hash=""),
            ),
        ]

    def __str__(self) -> str:
        return self.user.get_username()

    @property
    def name(self) -> str:
        """The name shown on screen and recorded in episodes."""
        return self.user.get_username()

    @property
    def scripted(self) -> bool:
        """Whether this operator is a script."""
        return self.kind == OperatorKind.SCRIPTED

    def may(self, role: Role | str) -> bool:
        """Say whether this operator has at least `role`."""
        return _RANK[Role(self.role)] >= _RANK[Role(role)]
