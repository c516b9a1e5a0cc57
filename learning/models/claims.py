"""Who looks at which episode at the labelling desk, so that two people do not judge the same."""

from django.db import models

from learning.models.episodes import Episode


class DeskClaim(models.Model):
    """An episode that one page of the desk shows, or is about to; void once expired.

    It keeps an episode from being handed to another page, and nothing else: a label is stored
    whoever has the claim.
    """

    # At most one page an episode: of two that claim it at once the database lets one through.
    episode = models.OneToOneField(Episode, on_delete=models.CASCADE, related_name="desk_claim")
    operator = models.ForeignKey("fleet.Operator", on_delete=models.CASCADE, related_name="+")
    # The page's own name: one labeller may have two tabs.
    page = models.UUIDField(db_index=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.episode_id} at {self.page}"
