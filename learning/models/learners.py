"""Learners, their rounds under a lease, and their curves."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone


class Learner(models.Model):
    """An algorithm with its state. The lease makes at most one process write for it.

    `lease_epoch` grows with every claim; every write of a round filters on it, so a round that
    lost its lease changes nothing more.
    """

    class State(models.TextChoices):
        """Whether rounds are due; set by people."""

        RUNNING = "running"
        PAUSED = "paused"

    name = models.SlugField(max_length=64, unique=True)
    algorithm = models.CharField(max_length=32, default="hg_dagger")
    config = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PAUSED)
    lease_epoch = models.PositiveIntegerField(default=0)
    # Empty when nobody holds it.
    lease_holder = models.CharField(max_length=200, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    rounds = models.PositiveIntegerField(default=0)
    # Gradient steps taken, as of the last write; the checkpoint may be a little behind.
    step = models.PositiveBigIntegerField(default=0)
    checkpoint_sha256 = models.CharField(max_length=64, blank=True)
    checkpoint_step = models.PositiveBigIntegerField(default=0)
    # Episodes up to this `closed_seq` are in the checkpointed learner's buffer.
    trained_seq = models.PositiveBigIntegerField(default=0)
    # Grows with every rebuild from an older version (`models.lineage.Branch`).
    branch = models.PositiveIntegerField(default=0)
    # The number the next version gets. Only grows, also when publishing fails.
    next_number = models.PositiveIntegerField(default=1)
    last_error = models.CharField(max_length=500, blank=True)
    # Why the last round did not run or train, in words.
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                name="learner_state_is_known", condition=Q(state__in=["running", "paused"])
            ),
            models.CheckConstraint(
                name="learner_lease_is_whole",
                condition=Q(lease_holder="", lease_expires_at__isnull=True)
                | (~Q(lease_holder="") & Q(lease_expires_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="learner_checkpoint_not_ahead", condition=Q(checkpoint_step__lte=F("step"))
            ),
            models.CheckConstraint(
                name="learner_next_number_from_1", condition=Q(next_number__gte=1)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def busy(self) -> bool:
        """Whether a round holds a lease that has not expired."""
        return self.lease_expires_at is not None and self.lease_expires_at > timezone.now()


class Round(models.Model):
    """One bounded run of a learner. `lost` is one whose process went away."""

    class State(models.TextChoices):
        """Running, and the three ways it ends."""

        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        LOST = "lost"

    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="round_set")
    number = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    holder = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    first_step = models.PositiveBigIntegerField(default=0)
    steps = models.PositiveIntegerField(default=0)
    # Seconds in gradient steps, and in everything else the round did.
    train_s = models.FloatField(default=0.0)
    overhead_s = models.FloatField(default=0.0)
    # Share of the round the learner waited for batches or for its update rate, in [0, 1].
    wait_share = models.FloatField(default=0.0)
    episodes_indexed = models.PositiveIntegerField(default=0)
    versions_published = models.PositiveIntegerField(default=0)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["learner_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["learner", "number"], name="round_number_once"),
            models.UniqueConstraint(fields=["learner", "epoch"], name="round_epoch_once"),
            models.UniqueConstraint(
                fields=["learner"], condition=Q(state="running"), name="round_one_running"
            ),
            models.CheckConstraint(
                name="round_end_is_whole",
                condition=Q(state="running", ended_at__isnull=True)
                | Q(state__in=["done", "failed", "lost"], ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="round_wait_share_in_range", condition=Q(wait_share__range=(0.0, 1.0))
            ),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id}/{self.number}"


class LearnerMetric(models.Model):
    """One point of a learner's curves, about every two seconds of training.

    `values` holds: loss (mean since the last point), loss_online and loss_offline by task name,
    omega_raw and omega by task name, frames_online, frames_offline, episodes_online,
    episodes_offline, steps_per_s, wait_share, skipped (non-finite steps), trained_seq, and
    whatever else the algorithm reports.
    """

    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="metrics")
    epoch = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=timezone.now)
    values = models.JSONField(default=dict)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["learner", "at"])]
        constraints = [
            # A round that was lost and repeated has the same steps under another epoch.
            models.UniqueConstraint(fields=["learner", "epoch", "step"], name="metric_once"),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id}@{self.step}"
