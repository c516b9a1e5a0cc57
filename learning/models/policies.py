"""Policy versions: immutable published weights with a number and an ancestry."""

from django.db import models
from django.db.models import F, Q

from learning.models.learners import Learner, Round


class PolicyVersion(models.Model):
    """A set of weights that passed, or failed, the gate. A published row implies its object."""

    class State(models.TextChoices):
        """What the gate said."""

        PUBLISHED = "published"
        REJECTED = "rejected"

    learner = models.ForeignKey(Learner, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    size_bytes = models.PositiveBigIntegerField()
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="children"
    )
    # Null for an imported version.
    round = models.ForeignKey(
        Round, null=True, blank=True, on_delete=models.SET_NULL, related_name="versions"
    )
    step = models.PositiveBigIntegerField(default=0)
    # Every episode up to this `closed_seq` was in the buffer it was trained from.
    trained_seq = models.PositiveBigIntegerField(default=0)
    gate = models.JSONField(default=dict, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PUBLISHED)
    # What people wrote about it.
    notes = models.CharField(max_length=2000, blank=True)
    # The learner's branch it was trained in (`models.lineage.Branch`); 0 before any rebuild.
    branch = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    # When it was first assigned to robots; null between its row and its assignment.
    assigned_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["learner_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["learner", "number"], name="version_number_once"),
            models.CheckConstraint(name="version_number_from_1", condition=Q(number__gte=1)),
            models.CheckConstraint(
                name="version_state_is_known", condition=Q(state__in=["published", "rejected"])
            ),
            models.CheckConstraint(
                name="version_rejected_is_not_assigned",
                condition=Q(state="published") | Q(assigned_at__isnull=True),
            ),
            models.CheckConstraint(
                name="version_is_not_its_own_parent",
                condition=Q(parent__isnull=True) | ~Q(parent=F("id")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id} #{self.number}"
