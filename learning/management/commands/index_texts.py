"""Make the indexes that find words inside texts quickly."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from learning.services.text_indexes import create_text_indexes


class Command(BaseCommand):
    help = (
        "Index the texts of episodes and labels on PostgreSQL, where the migration could not: it"
        " needs the extension pg_trgm. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if connection.vendor != "postgresql":
            self.stdout.write(f"{connection.vendor} has no such indexes; there is nothing to do")
            return
        if problem := create_text_indexes(connection):
            raise CommandError(problem)
        self.stdout.write("texts are indexed")
