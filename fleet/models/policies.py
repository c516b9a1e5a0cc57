"""What became of each version on each robot, as the robots said."""

from django.db import models

from fleet.models.robots import Robot


class PolicyReport(models.Model):
    """A robot verified, applied, rejected or rolled back a version. Append-only."""

    class Status(models.TextChoices):
        """The values of `fleet.protocol.messages.PolicyReport.status`."""

        VERIFIED = "verified"
        APPLIED = "applied"
        REJECTED = "rejected"
        ROLLED_BACK = "rolled_back"

    robot = models.ForeignKey(Robot, on_delete=models.CASCADE, related_name="policy_reports")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status.choices)
    reason = models.CharField(max_length=500, blank=True)
    # The robot's wall clock, which tells its reports apart, and the same on the server's clock.
    robot_wall_ns = models.BigIntegerField()
    reported_at = models.DateTimeField()

    class Meta:
        ordering = ["-reported_at"]
        indexes = [models.Index(fields=["number", "status"])]
        constraints = [
            models.UniqueConstraint(
                name="policy_report_once",
                fields=["robot", "number", "status", "robot_wall_ns"],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.robot_id} {self.status} {self.number}"
