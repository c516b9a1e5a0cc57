"""Evaluations: what is to be tried how often with which version, and what became of each trial."""

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from fleet.protocol.simulation import HELD_OUT_FROM
from learning.models.episodes import Episode
from learning.models.policies import PolicyVersion

MAX_TRIALS_PER_TASK = 500


class Evaluation(models.Model):
    """One version, or two on the same seeds, judged on held-out layouts by robots of the fleet.

    Everything is declared before the first trial: tasks, seeds, number, timeouts, and whether it
    may stop when decided. Open while queued or running.
    """

    class State(models.TextChoices):
        """Queued until a robot works on it; then running; then one of three ends."""

        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        CANCELLED = "cancelled"
        FAILED = "failed"

    OPEN = (State.QUEUED, State.RUNNING)

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    requested_by = models.ForeignKey(
        "fleet.Operator", on_delete=models.PROTECT, related_name="evaluations"
    )
    first = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    # Null: one version is judged, nothing compared.
    second = models.ForeignKey(
        PolicyVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    tasks = models.ManyToManyField("fleet.Task", related_name="evaluations")
    trials_per_task = models.PositiveSmallIntegerField(
        validators=[MinValueValidator(1), MaxValueValidator(MAX_TRIALS_PER_TASK)]
    )
    # Trial i of each task has the seed first_seed + i.
    first_seed = models.BigIntegerField(
        validators=[
            MinValueValidator(HELD_OUT_FROM),
            MaxValueValidator(2**31 - MAX_TRIALS_PER_TASK),
        ]
    )
    # Control ticks a trial may take; null is each task's own.
    timeout_ticks = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1_000_000)],
    )
    # Robots it may use at once; null is every idle one.
    max_robots = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)]
    )
    # End as soon as it is decided which version is better, or on which side of `target` one is.
    stop_when_decided = models.BooleanField(default=False)
    target = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)]
    )

    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    # "first" or "second" is better, "above" or "below" the target; empty while open or undecided.
    decision = models.CharField(max_length=8, blank=True)
    # Why it ended, or what it waits for, in words.
    note = models.CharField(max_length=500, blank=True)
    # Robots that may not work on it any more, with the reason.
    excluded = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "id"])]
        constraints = [
            models.CheckConstraint(
                name="evaluation_compares_two_versions",
                condition=Q(second__isnull=True) | ~Q(second=F("first")),
            ),
            models.CheckConstraint(
                name="evaluation_seeds_are_held_out", condition=Q(first_seed__gte=HELD_OUT_FROM)
            ),
            models.CheckConstraint(
                name="evaluation_has_trials",
                condition=Q(trials_per_task__gte=1, trials_per_task__lte=MAX_TRIALS_PER_TASK),
            ),
            models.CheckConstraint(
                name="evaluation_end_is_whole",
                condition=Q(state__in=["queued", "running"], ended_at__isnull=True, decision="")
                | Q(state__in=["done", "cancelled", "failed"], ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="evaluation_target_is_a_rate",
                condition=Q(target__isnull=True) | Q(target__gte=0, target__lte=1),
            ),
        ]

    def __str__(self) -> str:
        return str(self.uid)

    @property
    def open(self) -> bool:
        """Whether trials may still be run."""
        return self.state in self.OPEN

    @property
    def versions(self) -> list[PolicyVersion]:
        """The versions it judges, one or two."""
        return [self.first] if self.second is None else [self.first, self.second]


class EvaluationTrial(models.Model):
    """One layout of one task for one version. It counts when an attempt ran to its own end."""

    class State(models.TextChoices):
        """Due until a robot has it; done when it counts; void when no attempt could finish it."""

        DUE = "due"
        ASSIGNED = "assigned"
        DONE = "done"
        VOID = "void"

    evaluation = models.ForeignKey(Evaluation, on_delete=models.CASCADE, related_name="trials")
    version = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    task = models.ForeignKey("fleet.Task", on_delete=models.PROTECT, related_name="+")
    seed = models.BigIntegerField()
    # Trials are handed out in this order: seed by seed, every task and version of one before the
    # next, so that what is done is at any time nearly a whole number of blocks.
    position = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.DUE)
    # Attempts that ended without counting.
    attempts = models.PositiveSmallIntegerField(default=0)
    # Name of the newest attempt; an episode of an older one does not count.
    attempt = models.UUIDField(null=True, blank=True, unique=True)
    robot = models.ForeignKey(
        "fleet.Robot", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    assigned_at = models.DateTimeField(null=True, blank=True)
    episode = models.OneToOneField(
        Episode, null=True, blank=True, on_delete=models.PROTECT, related_name="evaluation_trial"
    )
    # Why the last attempt did not count.
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["evaluation_id", "position"]
        indexes = [models.Index(fields=["evaluation", "state", "position"])]
        constraints = [
            models.UniqueConstraint(
                fields=["evaluation", "version", "task", "seed"], name="trial_once_a_version"
            ),
            models.UniqueConstraint(fields=["evaluation", "position"], name="trial_position_once"),
            models.CheckConstraint(
                name="trial_assigned_is_whole",
                condition=~Q(state="assigned")
                | Q(attempt__isnull=False, assigned_at__isnull=False, episode__isnull=True),
            ),
            models.CheckConstraint(
                name="trial_done_has_its_episode",
                condition=Q(state="done", episode__isnull=False)
                | (~Q(state="done") & Q(episode__isnull=True)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.evaluation_id}/{self.position}"
