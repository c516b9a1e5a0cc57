"""Labels: what people judged, append-only."""

from django.db import models
from django.db.models import Q

from learning.models.episodes import Episode


class Judgement(models.TextChoices):
    """What a person may say of an episode: a robot's outcomes, and a success by half."""

    SUCCESS = "success"
    FAILURE = "failure"
    PARTIAL = "partial"
    TIMEOUT = "timeout"
    ABORT = "abort"


class FailureReason(models.TextChoices):
    """Why an episode failed, in the order of their keys."""

    MISSED_GRASP = "missed_grasp", "missed grasp"
    SLIPPED = "slipped", "slipped"
    COLLISION = "collision", "collision"
    WRONG_PLACE = "wrong_place", "wrong place"
    STUCK = "stuck", "stuck"
    OTHER = "other", "other"


class Source(models.TextChoices):
    """Where a label was given; only the desk's are independent of each other (kappa)."""

    API = "api"
    DESK = "desk"
    BULK = "bulk"
    REVIEW = "review"


# Judgements that something went wrong at some step.
FLAWED = (Judgement.FAILURE, Judgement.PARTIAL, Judgement.TIMEOUT)


class Label(models.Model):
    """A person's judgement on an episode, or the withdrawal of one. Never changed.

    The last label that stands, that is neither a withdrawal nor withdrawn, supersedes the others.
    """

    # Named by whoever gave it, so that sending it again changes nothing; null for older ones.
    uid = models.UUIDField(null=True, blank=True, unique=True, editable=False)
    episode = models.ForeignKey(Episode, on_delete=models.PROTECT, related_name="labels")
    # Empty on a withdrawal.
    outcome = models.CharField(max_length=16, choices=Judgement.choices, blank=True)
    operator = models.ForeignKey("fleet.Operator", on_delete=models.PROTECT, related_name="labels")
    # The step at which it went wrong, where the labeller pointed at one.
    failure_step = models.PositiveIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=16, choices=FailureReason.choices, blank=True)
    note = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.API)
    # The label that this one takes back.
    withdraws = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="withdrawal"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["episode", "-id"])]
        constraints = [
            models.CheckConstraint(
                name="label_outcome_is_known",
                condition=Q(withdraws__isnull=True, outcome__in=Judgement.values)
                | Q(withdraws__isnull=False, outcome=""),
            ),
            models.CheckConstraint(
                name="label_failure_point_is_of_a_failure",
                condition=Q(outcome__in=FLAWED) | Q(failure_step__isnull=True, reason=""),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.episode_id}: {self.outcome or 'withdrawn'}"

    @property
    def withdrawn(self) -> bool:
        """Whether a later row takes it back."""
        return hasattr(self, "withdrawal")
