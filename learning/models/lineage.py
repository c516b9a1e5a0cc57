"""Lineage: which learner learned from which episode, and from which gradient step on."""

from django.db import models
from django.db.models import Q
from django.utils import timezone

from learning.models.episodes import Episode
from learning.models.learners import Learner


class EpisodeUse(models.Model):
    """A learner's first gradient step on an episode; every later version of it learned from it.

    Episodes say the same of the first learner only (`first_trained_step`); several learners may
    learn from one episode, each at a step of its own.
    """

    episode = models.ForeignKey(Episode, on_delete=models.CASCADE, related_name="uses")
    learner = models.ForeignKey(Learner, on_delete=models.CASCADE, related_name="uses")
    step = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["learner_id", "step"]
        indexes = [models.Index(fields=["learner", "step"])]
        constraints = [
            models.UniqueConstraint(fields=["episode", "learner"], name="use_once_a_learner"),
            models.CheckConstraint(name="use_step_from_1", condition=Q(step__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.learner_id}@{self.step}"
