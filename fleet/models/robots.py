"""Robots: identity, embodiment, what they are assigned, and what they last reported."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from fleet.models.tasks import Task, validate_name
from fleet.protocol.control import Mode
from fleet.protocol.spec import PolicyRef


class FleetSettings(models.Model):
    """What holds for every robot; one row."""

    # One episode in this many is held out for evaluation; 0 is never.
    evaluate_every = models.PositiveIntegerField(default=6, validators=[MaxValueValidator(1000)])
    # Seconds between an episode's end and the next start, when the scene is put back.
    reset_s = models.FloatField(
        default=1.0, validators=[MinValueValidator(0), MaxValueValidator(3600)]
    )
    # No robot starts an episode while set.
    paused = models.BooleanField(default=False)
    # Scripted operators hand back and take over nothing while set; people are not affected.
    scripted_paused = models.BooleanField(default=False)
    # A request for help is to be answered within this time.
    help_sla_s = models.FloatField(
        default=30.0, validators=[MinValueValidator(1), MaxValueValidator(86_400)]
    )
    # From where on robots ask for help: the values of `fleet.protocol.help.HelpLimits`.
    help_doubt = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1e-9), MaxValueValidator(1e6)],
        help_text=_(
            "τ, in the action's unit squared; the learner page shows what it was at takeovers"
            ". Empty: doubt never asks."
        ),
    )
    help_still_s = models.FloatField(
        default=4.0,
        validators=[MinValueValidator(0), MaxValueValidator(3600)],
        help_text=_("A robot that hardly moved for this long asks for help; 0: never."),
    )
    help_failures = models.PositiveIntegerField(
        default=3,
        validators=[MaxValueValidator(1000)],
        help_text=_("A robot that failed at a task this often in a row asks for help; 0: never."),
    )
    help_value_drop = models.FloatField(
        null=True,
        blank=True,
        default=0.2,
        validators=[MinValueValidator(0.01), MaxValueValidator(1)],
        help_text="A robot whose value fell by this much within 50 steps asks for help; a certain "
        "success and a certain failure lie 0.5 apart. Empty: the value never asks.",
    )
    help_value_correlation = models.FloatField(
        default=0.6,
        validators=[MinValueValidator(-1), MaxValueValidator(1)],
        help_text="A value function whose held-out rank correlation is below this never asks.",
    )
    # The ValueRef of the value function that robots compute; null before there is one.
    value = models.JSONField(null=True, blank=True, editable=False)
    values_on_robots = models.BooleanField(
        default=True,
        help_text="Robots compute the value of what they see at every inference; it costs them "
        "about as much again.",
    )

    class Meta:
        verbose_name_plural = _("fleet settings")
        constraints = [
            models.CheckConstraint(name="fleet_settings_is_one_row", condition=Q(pk=1)),
            models.CheckConstraint(
                name="fleet_settings_in_range",
                condition=Q(evaluate_every__lte=1000, reset_s__gte=0, reset_s__lte=3600),
            ),
            models.CheckConstraint(
                name="fleet_help_settings_in_range",
                condition=Q(
                    help_sla_s__gte=1,
                    help_sla_s__lte=86_400,
                    help_still_s__gte=0,
                    help_still_s__lte=3600,
                    help_failures__lte=1000,
                )
                & (Q(help_doubt__isnull=True) | Q(help_doubt__gt=0, help_doubt__lte=1e6)),
            ),
            models.CheckConstraint(
                name="fleet_value_settings_in_range",
                condition=Q(help_value_correlation__gte=-1, help_value_correlation__lte=1)
                & (
                    Q(help_value_drop__isnull=True)
                    | Q(help_value_drop__gt=0, help_value_drop__lte=1)
                ),
            ),
        ]

    def __str__(self) -> str:
        return "Fleet settings"


class Robot(models.Model):
    """One machine, simulated or real.

    The assigned policy is a value (number, sha256, url), not a foreign key: fleet knows no
    learner (docs/adr/0001). Reported fields lag the live state by up to a second.
    """

    class Kind(models.TextChoices):
        """Shown wherever the robot is."""

        SIMULATED = "simulated"
        REAL = "real"

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    kind = models.CharField(max_length=16, choices=Kind.choices, default=Kind.SIMULATED)
    # Where it stands, as people call it; pages filter by it.
    site = models.CharField(max_length=64, blank=True)
    # SHA-256 of the bearer token; the token itself is shown once and kept nowhere.
    token_hash = models.CharField(max_length=64, unique=True)
    # RobotSpec as it last introduced itself; empty until its first hello.
    spec = models.JSONField(default=dict, blank=True)
    # A disabled robot may not connect or upload.
    enabled = models.BooleanField(default=True)
    paused = models.BooleanField(default=False)
    # Tasks it is for; none means all enabled tasks.
    tasks = models.ManyToManyField(Task, blank=True, related_name="robots")

    assigned_number = models.PositiveIntegerField(null=True, blank=True)
    assigned_sha256 = models.CharField(max_length=64, blank=True)
    assigned_url = models.CharField(max_length=500, blank=True)
    assigned_size_bytes = models.PositiveBigIntegerField(default=0)
    assigned_parent = models.PositiveIntegerField(null=True, blank=True)
    assigned_at = models.DateTimeField(null=True, blank=True)
    # While set it keeps the version it is assigned: assignments to others pass it by.
    pinned_at = models.DateTimeField(null=True, blank=True)
    pinned_by = models.CharField(max_length=150, blank=True)
    pin_reason = models.CharField(max_length=500, blank=True)

    # The version it runs, as it says, and since when.
    reported_number = models.PositiveIntegerField(null=True, blank=True)
    reported_sha256 = models.CharField(max_length=64, blank=True)
    reported_since = models.DateTimeField(null=True, blank=True)

    # The TrialOrder it is to carry out before anything else; null in normal work.
    order = models.JSONField(null=True, blank=True, editable=False)

    connected_at = models.DateTimeField(null=True, blank=True)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True)
    mode = models.CharField(
        max_length=16, choices=[(m.value, m.value) for m in Mode], default=Mode.HOLDING.value
    )
    purpose = models.CharField(max_length=16, default="train")
    # The evaluation whose version acts, as it says; the version is then the reported one.
    evaluation = models.CharField(max_length=500, blank=True)
    agent_version = models.CharField(max_length=500, blank=True)
    # Highest lease epoch granted or seen; a grant takes the next one.
    epoch = models.PositiveBigIntegerField(default=0)
    # A stop that the robot has not acknowledged yet; sent when it connects.
    stop_requested = models.CharField(max_length=64, blank=True)
    stop_by = models.CharField(max_length=150, blank=True)
    stop_requested_at = models.DateTimeField(null=True, blank=True)
    # The last stop it acknowledged: request and acknowledgement may be written in either order.
    stop_acknowledged = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="robot_token_hash_not_empty", condition=~Q(token_hash="")),
            models.CheckConstraint(
                name="robot_assignment_is_whole",
                condition=Q(assigned_number__isnull=True, assigned_at__isnull=True)
                | (
                    Q(assigned_number__isnull=False, assigned_at__isnull=False)
                    & ~Q(assigned_sha256="")
                ),
            ),
            models.CheckConstraint(
                name="robot_pin_has_a_version",
                condition=Q(pinned_at__isnull=True, pinned_by="", pin_reason="")
                | Q(pinned_at__isnull=False, assigned_number__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def stopped(self) -> bool:
        """Whether the robot last reported a latched stop."""
        return self.mode == Mode.STOPPED

    @property
    def assigned(self) -> PolicyRef | None:
        """The version it is to run, or None before the first assignment."""
        if self.assigned_number is None:
            return None
        return PolicyRef(
            number=self.assigned_number,
            sha256=self.assigned_sha256,
            url=self.assigned_url,
            size_bytes=self.assigned_size_bytes,
            parent=self.assigned_parent,
        )
