"""Registers the learning app. Nothing happens at start-up; torch is not imported here."""

from django.apps import AppConfig


class LearningConfig(AppConfig):
    """Episodes, labels, learners and policy versions."""

    name = "learning"
    verbose_name = "Learning"
    default_auto_field = "django.db.models.BigAutoField"
