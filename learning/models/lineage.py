"""Lineage: which learner learned from which episode, from which gradient step of which branch on.

A learner that is rebuilt from an older version begins a branch: what it learned after that version
is not in what it publishes from then on.
"""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from learning.models.episodes import Episode
from learning.models.learners import Learner
from learning.models.policies import PolicyVersion


class EpisodeUse(models.Model):
    """A learner's first gradient step on an episode; every later version of it learned from it.

    Episodes say the same of the first learner only (`first_trained_step`); several learners may
    learn from one episode, each at a step of its own.
    """

    episode = models.ForeignKey(Episode, on_delete=models.CASCADE, related_name="uses")
    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="uses")
    branch = models.PositiveIntegerField(default=0)
    step = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["learner_id", "step"]
        indexes = [models.Index(fields=["learner", "step"])]
        constraints = [
            models.UniqueConstraint(
                fields=["episode", "learner", "branch"], name="use_once_a_branch"
            ),
            models.CheckConstraint(name="use_step_from_1", condition=Q(step__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id}@{self.step}"


class Branch(models.Model):
    """From which version a learner went on when it was rebuilt; branch 0 has no row."""

    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="branches")
    number = models.PositiveIntegerField()
    origin = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, related_name="branches")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["learner_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["learner", "number"], name="branch_number_once"),
            models.CheckConstraint(name="branch_number_from_1", condition=Q(number__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id}/{self.number}"


class Exclusion(models.Model):
    """An episode that no buffer takes any more, and why. Its recording stays."""

    episode = models.OneToOneField(Episode, on_delete=models.CASCADE, related_name="exclusion")
    operator = models.ForeignKey("fleet.Operator", on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return str(self.episode_id)
