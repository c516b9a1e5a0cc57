"""What people say of a correction afterwards: a mark, what is cut off, or that it is discarded."""

from django.db import models
from django.db.models import Q


class Mark(models.TextChoices):
    """What an operator's span of control shows; the values of `learning.core.records.SpanMark`.

    A recovery brings the robot back to where the policy can go on, a correction shows the right
    action (RaC, arXiv 2509.07953).
    """

    CORRECTION = "correction"
    RECOVERY = "recovery"


class SpanReview(models.Model):
    """One entry of the history of a span of control. Never changed.

    A span is what one lease did in one episode. The episode may not be here yet: robots upload when
    it ends, and an operator decides seconds after handing back. Every entry holds the whole state,
    so the newest one is in force; taking one back is a further entry.
    """

    # Named by whoever wrote it, so that sending it again changes nothing.
    uid = models.UUIDField(unique=True, editable=False)
    robot = models.ForeignKey("fleet.Robot", on_delete=models.PROTECT, related_name="span_reviews")
    episode_uid = models.UUIDField()
    epoch = models.PositiveBigIntegerField()
    mark = models.CharField(max_length=16, choices=Mark.choices, default=Mark.CORRECTION)
    # Never imitated while it stands.
    discarded = models.BooleanField(default=False)
    # Steps cut off its beginning and its end.
    trim_start = models.PositiveIntegerField(default=0)
    trim_end = models.PositiveIntegerField(default=0)
    # Why, in the words of who wrote it.
    note = models.CharField(max_length=200, blank=True)
    operator = models.ForeignKey(
        "fleet.Operator", on_delete=models.PROTECT, related_name="span_reviews"
    )
    # The entry that this one takes back; what stood before it is in force again.
    undoes = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="undone_by"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["episode_uid", "epoch", "-id"])]
        constraints = [
            models.CheckConstraint(
                name="span_review_mark_is_known", condition=Q(mark__in=Mark.values)
            ),
            models.CheckConstraint(name="span_review_epoch_from_one", condition=Q(epoch__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.episode_uid}/{self.epoch}: {'discarded' if self.discarded else self.mark}"

    @property
    def undone(self) -> bool:
        """Whether a later entry takes it back."""
        return hasattr(self, "undone_by")
