"""Requests for help: what a robot needed, who took it, how long that took, and how it ended."""

from django.db import models
from django.db.models import Q

from fleet.models.operators import Operator
from fleet.models.robots import Robot


class HelpRequest(models.Model):
    """One need of one robot, from when it was raised to its end. At most one a robot is not closed.

    The robot decides whether it needs help; people and time decide what becomes of the request.
    """

    class Status(models.TextChoices):
        """The values of `fleet.protocol.browser.HelpState.status`."""

        OPEN = "open"
        CLAIMED = "claimed"
        ESCALATED = "escalated"  # waits for a lead
        RESOLVED = "resolved"  # helped, or the robot got out of it by itself
        SKIPPED = "skipped"  # a person said why not
        EXPIRED = "expired"  # the situation passed, or the robot went silent

    robot = models.ForeignKey(Robot, on_delete=models.CASCADE, related_name="help_requests")
    # The robot's own number of its need; grows.
    number = models.PositiveBigIntegerField()
    # Microseconds of the server's clock, made to grow with every change.
    revision = models.PositiveBigIntegerField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.OPEN)
    reasons = models.JSONField(default=list)
    constraint = models.BooleanField(default=False)
    uncertainty = models.FloatField(default=0.0)
    risk = models.FloatField(default=0.0)
    detail = models.CharField(max_length=500, blank=True)
    # Why it was skipped, escalated, expired, or is open again.
    note = models.CharField(max_length=500, blank=True)

    raised_at = models.DateTimeField()
    # The first claim, for the time to an answer; and the claim in force.
    answered_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.ForeignKey(
        Operator, null=True, blank=True, on_delete=models.SET_NULL, related_name="help_requests"
    )
    escalated_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-raised_at"]
        indexes = [models.Index(fields=["closed_at", "status"])]
        constraints = [
            models.UniqueConstraint(
                name="help_one_live_a_robot", fields=["robot"], condition=Q(closed_at__isnull=True)
            ),
            models.UniqueConstraint(name="help_number_once_a_robot", fields=["robot", "number"]),
            models.CheckConstraint(
                name="help_end_is_whole",
                condition=Q(closed_at__isnull=True, status__in=["open", "claimed", "escalated"])
                | Q(closed_at__isnull=False, status__in=["resolved", "skipped", "expired"]),
            ),
            models.CheckConstraint(
                name="help_claim_is_whole",
                condition=~Q(status="claimed") | Q(claimed_at__isnull=False),
            ),
            models.CheckConstraint(
                name="help_escalation_is_whole",
                condition=~Q(status="escalated") | Q(escalated_at__isnull=False),
            ),
            models.CheckConstraint(
                name="help_figures_are_shares",
                condition=Q(uncertainty__gte=0, uncertainty__lte=1, risk__gte=0, risk__lte=1),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.robot_id} {self.status} {self.number}"
