"""Tasks: what robots are asked to do."""

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from fleet.protocol.spec import TaskSpec

# The wire's Name (fleet.protocol.spec), as a form validator.
validate_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z", _("Letters, digits, dots, dashes and underscores only.")
)


class Task(models.Model):
    """One task. Its `name` is never an input of a policy; the instruction is."""

    name = models.CharField(max_length=64, unique=True, validators=[validate_name])
    title = models.CharField(max_length=100, blank=True)
    instruction = models.CharField(max_length=500)
    # Other words for the same task, drawn at random in training.
    paraphrases = models.JSONField(default=list, blank=True)
    # Tasks of one family are shown together.
    family = models.CharField(max_length=64, blank=True)
    # Control ticks after which an episode ends as a timeout.
    timeout_ticks = models.PositiveIntegerField(
        default=200, validators=[MinValueValidator(1), MaxValueValidator(1_000_000)]
    )
    # How often robots choose it, relative to the others.
    weight = models.FloatField(default=1.0, validators=[MinValueValidator(0.0)])
    # Part of each layout dimension's range that training resets draw from, as fractions.
    layout_low = models.FloatField(default=0.0)
    layout_high = models.FloatField(default=1.0)
    enabled = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name="task_has_time", condition=Q(timeout_ticks__gte=1)),
            models.CheckConstraint(name="task_weight_not_negative", condition=Q(weight__gte=0)),
            models.CheckConstraint(
                name="task_layout_is_a_range", condition=Q(layout_low__lt=F("layout_high"))
            ),
        ]

    def __str__(self) -> str:
        return self.title or self.name

    def spec(self) -> TaskSpec:
        """Return the task as robots receive it."""
        return TaskSpec(
            name=self.name,
            instruction=self.instruction,
            paraphrases=tuple(self.paraphrases),
            timeout_ticks=self.timeout_ticks,
            weight=self.weight,
            layout_low=self.layout_low,
            layout_high=self.layout_high,
        )
