"""RECAP's value functions and thresholds, and the sidecars derived with them.

An episode never changes; what is derived from it is a sidecar that names what it was derived with.
"""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from learning.models.episodes import Episode
from learning.models.labels import Judgement
from learning.models.learners import Learner


class ValueVersion(models.Model):
    """A value function of a learner: a job until it is done, frozen weights from then on.

    `lease_epoch` grows with every claim; every write of the job filters on it.
    """

    class State(models.TextChoices):
        """Due, running, and the ways it ends."""

        DUE = "due"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="values_set")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.DUE)
    # Options of the fit, `learning.core.value_training.FitConfig`, and shares of its threshold.
    config = models.JSONField(default=dict, blank=True)
    # Share done, in [0, 1].
    progress = models.FloatField(default=0.0)
    cancel_asked = models.BooleanField(default=False)
    lease_epoch = models.PositiveIntegerField(default=0)
    lease_holder = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    # The weights, once it is done.
    sha256 = models.CharField(max_length=64, blank=True)
    # Episodes up to this `closed_seq` were looked at; those that were judged were fitted to.
    fitted_seq = models.PositiveBigIntegerField(default=0)
    episodes = models.PositiveIntegerField(default=0)
    frames = models.PositiveIntegerField(default=0)
    # Spearman's correlation of value and return on held-out episodes: mean over tasks, and each.
    correlation = models.FloatField(null=True, blank=True)
    by_task = models.JSONField(default=dict, blank=True)
    # Why it failed.
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["learner_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["learner", "number"], name="value_number_once"),
            models.UniqueConstraint(
                fields=["learner"],
                condition=Q(state__in=["due", "running"]),
                name="value_one_unfinished",
            ),
            models.CheckConstraint(
                name="value_progress_in_range", condition=Q(progress__range=(0.0, 1.0))
            ),
            models.CheckConstraint(
                name="value_end_is_whole",
                condition=Q(state__in=["due", "running"], ended_at__isnull=True)
                | Q(state__in=["done", "failed", "cancelled"], ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="value_done_has_weights", condition=~Q(state="done") | ~Q(sha256="")
            ),
            models.CheckConstraint(
                name="value_lease_is_whole",
                condition=Q(state="running", lease_expires_at__isnull=False)
                | (~Q(state="running") & Q(lease_expires_at__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id} value {self.number}"

    @property
    def unfinished(self) -> bool:
        """Whether it is due or running."""
        return self.state in (self.State.DUE, self.State.RUNNING)


class ThresholdVersion(models.Model):
    """Which share of steps counts as positive; in force is the newest of the newest value function.

    Until `derived_at` it only says what is wanted: a worker works out the thresholds.
    """

    value = models.ForeignKey(ValueVersion, on_delete=models.CASCADE, related_name="thresholds")
    number = models.PositiveIntegerField()
    # `learning.core.advantages.Shares`.
    shares = models.JSONField(default=dict, blank=True)
    # Threshold by task, in the unit of returns.
    epsilons = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    derived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["value_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["value", "number"], name="threshold_number_once"),
            models.CheckConstraint(name="threshold_number_from_1", condition=Q(number__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.value_id} threshold {self.number}"


class Sidecar(models.Model):
    """Returns, values, advantages and indicators of one episode, as an object in the store.

    Its values hold for every threshold of the value function and every outcome, so another
    threshold or a corrected label makes another sidecar without running the network.
    """

    episode = models.ForeignKey(Episode, on_delete=models.CASCADE, related_name="sidecars")
    value = models.ForeignKey(ValueVersion, on_delete=models.CASCADE, related_name="sidecars")
    # Null: values alone, before any threshold.
    threshold = models.ForeignKey(
        ThresholdVersion, null=True, on_delete=models.CASCADE, related_name="sidecars"
    )
    outcome = models.CharField(max_length=16, choices=Judgement.choices)
    sha256 = models.CharField(max_length=64, db_index=True)
    positive_steps = models.PositiveIntegerField(default=0)
    steps = models.PositiveIntegerField()
    # V of the last step: what the value function expected of the outcome. Null on older rows.
    end_value = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["episode", "threshold", "outcome"], name="sidecar_once"
            ),
            models.UniqueConstraint(
                fields=["episode", "value"],
                condition=Q(threshold__isnull=True),
                name="sidecar_values_once",
            ),
            models.CheckConstraint(
                name="sidecar_counts_fit", condition=Q(positive_steps__lte=F("steps"))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.episode_id} by {self.value_id}/{self.threshold_id}"
