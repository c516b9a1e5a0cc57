"""Registers the fleet app. Only its phrases are made known at start-up."""

from django.apps import AppConfig


class FleetConfig(AppConfig):
    """Robots, tasks, operators, takeovers and feeds."""

    name = "fleet"
    verbose_name = "Fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let pages show what is said here in the reader's language."""
        from fleet import phrases
        from fleet.sayings import SAYINGS

        phrases.add(SAYINGS)
