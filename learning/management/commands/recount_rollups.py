"""Count every episode anew for the dashboards."""

from typing import Any

from django.core.management.base import BaseCommand

from learning.services.rollups import recount


class Command(BaseCommand):
    help = (
        "Count every closed episode anew for the dashboards. Needed only where rows were changed"
        " past the services, as after restoring a part of a database."
    )

    def handle(self, **_: Any) -> None:
        self.stdout.write(f"{recount()} episodes counted")
