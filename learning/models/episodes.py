"""Episodes and their parts: what was recorded, where its bytes are, and the buffers' cursor."""

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.functions import Coalesce, NullIf

from learning.models.corrections import Mark


class Outcome(models.TextChoices):
    """How an episode ended; the values of `fleet.protocol.messages.Outcome`."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ABORT = "abort"


class Purpose(models.TextChoices):
    """Why an episode was run; the values of `fleet.protocol.messages.Purpose`."""

    TRAIN = "train"
    EVAL = "eval"
    DEMONSTRATION = "demonstration"


class Episode(models.Model):
    """Reset to end of one run, as its robot recorded it. Immutable once closed.

    Only a closed episode is visible to learners. `closed_seq` is their cursor: it grows in commit
    order, so a reader that has seen n has seen every episode at or below n.
    """

    class State(models.TextChoices):
        """Open while parts arrive; closed by the manifest."""

        OPEN = "open"
        CLOSED = "closed"

    uid = models.UUIDField(unique=True, editable=False)
    # Null for demonstrations: no robot of the fleet recorded them.
    robot = models.ForeignKey(
        "fleet.Robot", null=True, blank=True, on_delete=models.PROTECT, related_name="episodes"
    )
    task = models.ForeignKey("fleet.Task", on_delete=models.PROTECT, related_name="episodes")
    purpose = models.CharField(max_length=16, choices=Purpose.choices)
    seed = models.BigIntegerField()
    instruction = models.CharField(max_length=500, blank=True)
    # The version the episode started with; null where no policy acted.
    policy_number = models.PositiveIntegerField(null=True, blank=True)
    policy_sha256 = models.CharField(max_length=64, blank=True)
    # The attempt at an evaluation's trial that it is; null for every other episode.
    trial = models.UUIDField(null=True, blank=True, db_index=True)
    # True when autonomous steps name more than one version; must never happen.
    mixed_versions = models.BooleanField(default=False)

    # What the robot says.
    outcome = models.CharField(max_length=16, choices=Outcome.choices, blank=True)
    # What people say: the last label's, empty while there is none; services.labels keeps it.
    judged_outcome = models.CharField(max_length=16, blank=True)
    # What counts: people before the robot, null while neither has spoken.
    outcome_in_force = models.GeneratedField(
        expression=Coalesce(NullIf("judged_outcome", Value("")), NullIf("outcome", Value(""))),
        output_field=models.CharField(max_length=16, null=True),
        db_persist=True,
    )
    judge = models.CharField(max_length=500, blank=True)
    steps = models.PositiveIntegerField(default=0)
    human_steps = models.PositiveIntegerField(default=0)
    transition_steps = models.PositiveIntegerField(default=0)
    # Seconds a person held the robot, handovers included.
    human_s = models.FloatField(default=0.0)
    control_period_s = models.FloatField(default=0.05)
    link = models.JSONField(default=dict, blank=True)
    # False when the agent died in it; kept, and never trained on.
    complete = models.BooleanField(default=False)

    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.OPEN)
    created_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_seq = models.PositiveBigIntegerField(null=True, blank=True, unique=True)
    # Content of the manifest that closed it: closing again with another one is refused.
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    # First gradient step that used the episode, and when it was taken.
    first_trained_at = models.DateTimeField(null=True, blank=True)
    first_trained_step = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["purpose", "closed_seq"]),
            models.Index(fields=["robot", "-started_at"]),
            models.Index(fields=["task", "purpose", "closed_seq"]),
            models.Index(fields=["state", "created_at"]),
            # Orders and filters of the episode browser (selectors.search).
            models.Index(fields=["started_at", "uid"]),
            models.Index(fields=["outcome_in_force", "started_at", "uid"]),
            models.Index(fields=["task", "started_at", "uid"]),
            models.Index(fields=["policy_number", "started_at"]),
            models.Index(fields=["steps", "uid"]),
            models.Index(fields=["human_steps", "uid"]),
        ]
        constraints = [
            models.CheckConstraint(
                name="episode_without_robot_is_a_demonstration",
                condition=Q(robot__isnull=False) | Q(purpose=Purpose.DEMONSTRATION),
            ),
            models.CheckConstraint(
                name="episode_of_a_trial_is_held_out",
                condition=Q(trial__isnull=True) | Q(purpose=Purpose.EVAL),
            ),
            models.CheckConstraint(
                name="episode_closed_has_its_end",
                condition=Q(
                    state="open",
                    closed_seq__isnull=True,
                    closed_at__isnull=True,
                    manifest_sha256="",
                    complete=False,
                )
                | Q(
                    state="closed",
                    closed_seq__isnull=False,
                    closed_at__isnull=False,
                    ended_at__isnull=False,
                    outcome__in=Outcome.values,
                ),
            ),
            models.CheckConstraint(
                name="episode_counts_fit_its_steps",
                condition=Q(steps__gte=F("human_steps") + F("transition_steps")),
            ),
            models.CheckConstraint(
                name="episode_control_period_positive", condition=Q(control_period_s__gt=0)
            ),
            models.CheckConstraint(
                name="episode_first_trained_is_whole",
                condition=Q(first_trained_at__isnull=True, first_trained_step__isnull=True)
                | Q(first_trained_at__isnull=False, first_trained_step__isnull=False),
            ),
            models.CheckConstraint(
                name="episode_trained_on_is_trainable",
                condition=Q(first_trained_at__isnull=True)
                | (Q(state="closed", complete=True) & ~Q(purpose=Purpose.EVAL)),
            ),
        ]

    def __str__(self) -> str:
        return str(self.uid)

    @property
    def closed(self) -> bool:
        """Whether the manifest is stored."""
        return self.state == self.State.CLOSED

    @property
    def duration_s(self) -> float:
        """Seconds of control, resets excluded."""
        return self.steps * self.control_period_s


class EpisodePart(models.Model):
    """One stored part of an episode: the row exists only after its object does.

    The counts are read from the part's columns when it is stored, so that closing an episode
    reads no object.
    """

    episode = models.ForeignKey(Episode, on_delete=models.CASCADE, related_name="parts")
    index = models.PositiveSmallIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    size_bytes = models.PositiveBigIntegerField()
    first_step = models.PositiveIntegerField()
    steps = models.PositiveIntegerField()
    human_steps = models.PositiveIntegerField(default=0)
    transition_steps = models.PositiveIntegerField(default=0)
    # Distinct policy numbers on the steps the policy controlled.
    policy_numbers = models.JSONField(default=list, blank=True)
    stored_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["episode_id", "index"]
        constraints = [
            models.UniqueConstraint(fields=["episode", "index"], name="part_once_an_episode"),
            models.CheckConstraint(
                name="part_is_not_empty", condition=Q(steps__gt=0, size_bytes__gt=0)
            ),
            models.CheckConstraint(
                name="part_counts_fit_its_steps",
                condition=Q(steps__gte=F("human_steps") + F("transition_steps")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.episode_id}/{self.index}"


class Intervention(models.Model):
    """A maximal span of steps with an operator in control: start <= step < end.

    What was recorded never changes; the mark and what is kept of it are what people say of it now
    (`SpanReview`), and services.corrections keeps them.
    """

    episode = models.ForeignKey(Episode, on_delete=models.CASCADE, related_name="interventions")
    start = models.PositiveIntegerField()
    end = models.PositiveIntegerField()
    lease_epoch = models.PositiveIntegerField(default=0)
    # A name, not a foreign key: the robot recorded it, and it outlives the operator's account.
    operator = models.CharField(max_length=500, blank=True)
    operator_kind = models.CharField(max_length=500, default="human")
    # Doubt at the step of the takeover; null when not computed.
    doubt = models.FloatField(null=True, blank=True)
    mark = models.CharField(max_length=16, choices=Mark.choices, default=Mark.CORRECTION)
    # Never imitated while set.
    discarded = models.BooleanField(default=False)
    # Steps at its beginning and its end that are not imitated either.
    trim_start = models.PositiveIntegerField(default=0)
    trim_end = models.PositiveIntegerField(default=0)
    # What the robot's value function said there, likewise.
    value = models.FloatField(null=True, blank=True)

    class Meta:
        ordering = ["episode_id", "start"]
        indexes = [
            models.Index(fields=["operator", "episode"]),
            models.Index(fields=["mark", "episode"]),
        ]
        constraints = [
            models.UniqueConstraint(fields=["episode", "start"], name="intervention_once"),
            models.CheckConstraint(
                name="intervention_is_not_empty", condition=Q(end__gt=F("start"))
            ),
            models.CheckConstraint(
                name="intervention_trims_fit_into_it",
                condition=Q(end__gte=F("start") + F("trim_start") + F("trim_end")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.operator} {self.start}-{self.end}"

    @property
    def length(self) -> int:
        """Steps in it."""
        return self.end - self.start

    @property
    def kept_start(self) -> int:
        """First step of it that may be imitated."""
        return self.end if self.discarded else self.start + self.trim_start

    @property
    def kept_end(self) -> int:
        """The step before which what may be imitated ends."""
        return self.end - self.trim_end * (not self.discarded)

    @property
    def kept(self) -> int:
        """Steps of it that may be imitated, handovers included."""
        return self.kept_end - self.kept_start


class ClosedCursor(models.Model):
    """The last `closed_seq` given out; one row.

    Whoever closes an episode increments this row in the same transaction. Its row lock is held
    until commit, so numbers become visible in their own order and a reader never skips one. A
    database sequence would not do: it hands out numbers that commit out of order.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    value = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(name="closed_cursor_is_one_row", condition=Q(id=1)),
        ]

    def __str__(self) -> str:
        return str(self.value)
