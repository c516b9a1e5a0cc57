"""Rollups: counts of closed episodes by hour, day, version and operator, for the dashboards.

Derived, and kept in the transaction that closes or judges an episode: they equal a recount of the
rows at any time (services.rollups). Sums are whole numbers, so that their order cannot matter.
Demonstrations are not counted: no robot of the fleet acted.
"""

from django.db import models
from django.db.models import Q

from learning.models.episodes import Purpose


class Counts(models.Model):
    """What is counted of a group of closed episodes."""

    episodes = models.PositiveIntegerField(default=0)
    # By the outcome in force.
    successes = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    partials = models.PositiveIntegerField(default=0)
    timeouts = models.PositiveIntegerField(default=0)
    aborts = models.PositiveIntegerField(default=0)
    # Episodes that somebody took over at least once, and how often that was.
    corrected = models.PositiveIntegerField(default=0)
    interventions = models.PositiveIntegerField(default=0)
    # Milliseconds of control, resets excluded; those of them in which somebody held the robot; and
    # the steps in which they moved it or took it over.
    acted_ms = models.PositiveBigIntegerField(default=0)
    human_ms = models.PositiveBigIntegerField(default=0)
    human_steps = models.PositiveBigIntegerField(default=0)

    class Meta:
        abstract = True


class SpanRollup(Counts):
    """Episodes of one robot, task and purpose that started within one hour or day, UTC."""

    class Span(models.TextChoices):
        """Both are kept, so that a long range reads few rows."""

        HOUR = "hour"
        DAY = "day"

    span = models.CharField(max_length=4, choices=Span.choices)
    starts_at = models.DateTimeField()
    robot = models.ForeignKey("fleet.Robot", on_delete=models.CASCADE, related_name="+")
    task = models.ForeignKey("fleet.Task", on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="span_rollup_once", fields=["span", "starts_at", "robot", "task", "purpose"]
            ),
            models.CheckConstraint(
                name="span_rollup_is_of_robots", condition=~Q(purpose=Purpose.DEMONSTRATION)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.span} {self.starts_at:%Y-%m-%d %H}: {self.episodes}"


class VersionRollup(Counts):
    """Episodes that started with one policy version, by task and purpose."""

    policy_number = models.PositiveIntegerField()
    task = models.ForeignKey("fleet.Task", on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="version_rollup_once", fields=["policy_number", "task", "purpose"]
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.policy_number}: {self.episodes}"


class OperatorRollup(models.Model):
    """What one operator did on one day, UTC, by task."""

    day = models.DateTimeField()
    # A name, as in `Intervention`: it outlives the account.
    operator = models.CharField(max_length=500)
    operator_kind = models.CharField(max_length=500)
    task = models.ForeignKey("fleet.Task", on_delete=models.CASCADE, related_name="+")
    interventions = models.PositiveIntegerField(default=0)
    human_ms = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="operator_rollup_once", fields=["day", "operator", "operator_kind", "task"]
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operator} {self.day:%Y-%m-%d}: {self.interventions}"


# What people and robots say of an episode → what is counted of it.
OUTCOME_FIELDS: dict[str, str] = {
    "success": "successes",
    "failure": "failures",
    "partial": "partials",
    "timeout": "timeouts",
    "abort": "aborts",
}
