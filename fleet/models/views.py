"""Saved views: how a person likes to see the wall of robots."""

from django.core.validators import ProhibitNullCharactersValidator
from django.db import models

from fleet.models.operators import Operator


class SavedView(models.Model):
    """One filtered and sorted wall, by the name its owner gave it."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="saved_views")
    name = models.CharField(max_length=40, validators=[ProhibitNullCharactersValidator()])
    # What follows the "?" in the wall's address.
    query = models.CharField(
        max_length=500, blank=True, validators=[ProhibitNullCharactersValidator()]
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(name="one_saved_view_a_name", fields=["operator", "name"]),
            models.CheckConstraint(name="saved_view_has_a_name", condition=~models.Q(name="")),
        ]

    def __str__(self) -> str:
        return self.name
