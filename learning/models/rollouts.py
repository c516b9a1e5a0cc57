"""Which version the fleet is to run: each learner's plan, its canaries, and who changed what."""

import uuid

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from learning.models.learners import Learner
from learning.models.policies import PolicyVersion


class CanaryTerms(models.Model):
    """What a canary declares beforehand; abstract, shared by the plan and the canary."""

    # Percent of the robots that may run it, when none are named.
    share = models.PositiveSmallIntegerField(
        default=20, validators=[MinValueValidator(1), MaxValueValidator(90)]
    )
    # Wrong claims of harm at most, over both measures and all looks.
    alpha = models.FloatField(
        default=0.05, validators=[MinValueValidator(0.0001), MaxValueValidator(0.5)]
    )
    # Share of episodes by which a candidate may be worse and still counts as not worse.
    margin = models.FloatField(
        default=0.15, validators=[MinValueValidator(0.01), MaxValueValidator(0.9)]
    )
    # Episodes an arm at which it is decided at the latest.
    episodes = models.PositiveIntegerField(
        default=100, validators=[MinValueValidator(2), MaxValueValidator(100_000)]
    )
    # Minutes after which it ends with what there is.
    limit_min = models.PositiveIntegerField(
        default=240, validators=[MinValueValidator(1), MaxValueValidator(100_000)]
    )

    class Meta:
        abstract = True


class Rollout(CanaryTerms):
    """What the robots that follow a learner are to run. The terms are those of its next canaries.

    What each robot runs follows from this row, the pins and the running canary alone, so that it
    can be worked out anew at any time (`services.assignments`).
    """

    class Mode(models.TextChoices):
        """What a publish does."""

        AUTOMATIC = "automatic"  # every robot runs the newest version
        CANARY = "canary"  # the newest version must first prove itself on a few robots
        MANUAL = "manual"  # nothing, until a lead rolls it out

    learner = models.OneToOneField(Learner, on_delete=models.CASCADE, related_name="rollout")
    mode = models.CharField(max_length=10, choices=Mode.choices, default=Mode.AUTOMATIC)
    # The fleet's version unless the mode is automatic; null before there was any.
    target = models.ForeignKey(
        PolicyVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    # A version that only some robots run, by name, in place of the target.
    part = models.ForeignKey(
        PolicyVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    part_robots = models.JSONField(default=list, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="rollout_mode_is_known",
                condition=Q(mode__in=["automatic", "canary", "manual"]),
            ),
            models.CheckConstraint(
                name="rollout_in_part_is_manual",
                condition=Q(part__isnull=True) | Q(mode="manual"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id} {self.mode}"


class Canary(CanaryTerms):
    """A candidate on a few robots against the incumbent on the others, until there is a verdict."""

    class State(models.TextChoices):
        """Running, and the three ways it ends."""

        RUNNING = "running"
        PROMOTED = "promoted"
        ROLLED_BACK = "rolled_back"
        CANCELLED = "cancelled"

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="canaries")
    candidate = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="canaries")
    incumbent = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="+")
    # Names of the robots that run the candidate, and of those that ran on with the incumbent when
    # it began: only their episodes are compared.
    robots = models.JSONField(default=list)
    others = models.JSONField(default=list)
    # Episodes of incumbent and candidate that are compared as one block.
    block_incumbent = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    block_candidate = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1)])
    state = models.CharField(max_length=12, choices=State.choices, default=State.RUNNING)
    # A `core.canary.Verdict`; empty while running or cancelled.
    verdict = models.CharField(max_length=16, blank=True)
    note = models.CharField(max_length=500, blank=True)
    # Null: the learner's mode began it.
    started_by = models.ForeignKey(
        "fleet.Operator", null=True, blank=True, on_delete=models.PROTECT, related_name="canaries"
    )
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "canaries"
        constraints = [
            models.UniqueConstraint(
                fields=["learner"], condition=Q(state="running"), name="canary_one_running"
            ),
            models.CheckConstraint(
                name="canary_compares_two_versions", condition=~Q(candidate=F("incumbent"))
            ),
            models.CheckConstraint(
                name="canary_end_is_whole",
                condition=Q(state="running", ended_at__isnull=True, verdict="")
                | Q(state__in=["promoted", "rolled_back"], ended_at__isnull=False) & ~Q(verdict="")
                | Q(state="cancelled", ended_at__isnull=False, verdict=""),
            ),
        ]

    def __str__(self) -> str:
        return str(self.uid)

    @property
    def open(self) -> bool:
        """Whether it still runs."""
        return self.state == self.State.RUNNING


class PolicyChange(models.Model):
    """Somebody, or a rule, changed what robots run. Append-only."""

    class Kind(models.TextChoices):
        """What was done."""

        ROLLED_OUT = "rolled_out", "rolled out"
        ROLLED_BACK = "rolled_back", "rolled back"
        CANARY_STARTED = "canary_started", "canary started"
        CANARY_ENDED = "canary_ended", "canary ended"
        PINNED = "pinned", "pinned"
        UNPINNED = "unpinned", "unpinned"
        MODE = "mode", "mode changed"
        REBUILT = "rebuilt", "rebuilt from before"

    learner = models.ForeignKey(
        Learner, null=True, blank=True, on_delete=models.CASCADE, related_name="changes"
    )
    version = models.ForeignKey(
        PolicyVersion, null=True, blank=True, on_delete=models.PROTECT, related_name="changes"
    )
    kind = models.CharField(max_length=16, choices=Kind.choices)
    # In words: which robots, from what to what.
    what = models.CharField(max_length=1000)
    reason = models.CharField(max_length=500, blank=True)
    # Null: a rule did it, the words say which.
    operator = models.ForeignKey(
        "fleet.Operator", null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["version", "-id"])]

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"


class VersionTag(models.Model):
    """A word people put on a version, to find it again."""

    version = models.ForeignKey(PolicyVersion, on_delete=models.CASCADE, related_name="tags")
    name = models.SlugField(max_length=32)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["version", "name"], name="version_tag_once"),
        ]

    def __str__(self) -> str:
        return self.name
