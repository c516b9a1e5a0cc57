"""Leases: who held which robot, when, and how it ended."""

from django.db import models
from django.db.models import F, Q

from fleet.models.operators import Operator
from fleet.models.robots import Robot


class LeaseEnd(models.TextChoices):
    """How a lease ended. All but a hand-back leave the robot holding."""

    HAND_BACK = "hand_back"
    LOST = "lost"  # the holder's socket closed
    EXPIRED = "expired"  # the holder went silent
    REFUSED = "refused"  # the robot did not take it
    REVOKED = "revoked"  # a lead ended it
    PASSED = "passed"  # the holder gave it to somebody who asked


class TakeoverLease(models.Model):
    """The right to drive one robot. At most one is open a robot; epochs of a robot only grow."""

    robot = models.ForeignKey(Robot, on_delete=models.PROTECT, related_name="leases")
    operator = models.ForeignKey(Operator, on_delete=models.PROTECT, related_name="leases")
    epoch = models.PositiveBigIntegerField()
    granted_at = models.DateTimeField()
    # Renewed at most once a second while held.
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    how = models.CharField(max_length=16, choices=LeaseEnd.choices, blank=True)

    class Meta:
        ordering = ["-granted_at"]
        indexes = [models.Index(fields=["ended_at", "expires_at"])]
        constraints = [
            models.UniqueConstraint(
                name="lease_one_open_a_robot", fields=["robot"], condition=Q(ended_at__isnull=True)
            ),
            models.UniqueConstraint(name="lease_epoch_once_a_robot", fields=["robot", "epoch"]),
            models.CheckConstraint(name="lease_epoch_from_one", condition=Q(epoch__gte=1)),
            models.CheckConstraint(
                name="lease_expires_after_grant", condition=Q(expires_at__gt=F("granted_at"))
            ),
            models.CheckConstraint(
                name="lease_end_is_whole",
                condition=Q(ended_at__isnull=True, how="")
                | Q(ended_at__isnull=False, how__in=LeaseEnd.values),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.robot_id}/{self.epoch}"
