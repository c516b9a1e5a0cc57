"""Registers the composition root, so that its checks run."""

from django.apps import AppConfig


class SopWebConfig(AppConfig):
    """Settings, routing and checks."""

    name = "sop_web"

    def ready(self) -> None:
        """Register the checks."""
        from sop_web import checks  # noqa: F401
