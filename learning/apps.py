"""Registers the learning app. Only its phrases are made known at start-up; no torch here."""

from django.apps import AppConfig


class LearningConfig(AppConfig):
    """Episodes, labels, learners and policy versions."""

    name = "learning"
    verbose_name = "Learning"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Let pages show what is said here in the reader's language."""
        from fleet import phrases
        from learning.sayings import SAYINGS

        phrases.add(SAYINGS)
