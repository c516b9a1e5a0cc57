"""Labels: what people judged, append-only."""

from django.db import models

from learning.models.episodes import Episode, Outcome


class Label(models.Model):
    """A person's judgement on an episode. Never changed; a later label supersedes it."""

    episode = models.ForeignKey(Episode, on_delete=models.PROTECT, related_name="labels")
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    operator = models.ForeignKey("fleet.Operator", on_delete=models.PROTECT, related_name="labels")
    note = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["episode", "-id"])]
        constraints = [
            models.CheckConstraint(
                name="label_outcome_is_known", condition=models.Q(outcome__in=Outcome.values)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.episode_id}: {self.outcome}"
