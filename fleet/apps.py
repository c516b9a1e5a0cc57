"""Registers the fleet app. Nothing happens at start-up."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Robots, tasks, operators, takeovers and feeds."""

    name = "fleet"
    verbose_name = "Fleet"
    default_auto_field = "django.db.models.BigAutoField"
