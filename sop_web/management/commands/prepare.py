"""Bring an installation up to date in one process: migrations, robots, tasks, people, learner."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Migrate, then seed the demonstration fleet and its learner. Safe to repeat."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--robots", type=int, default=4)
        parser.add_argument("--operators", type=int, default=1)
        parser.add_argument("--tasks", default="", help="comma-separated; empty for the default")
        parser.add_argument("--reset-s", type=float, help="pause for a reset, of a new fleet")
        parser.add_argument("--base", type=Path, help="base policy; the shipped one by default")
        parser.add_argument("--seed", type=int, default=0, help="of a new learner's draws")
        parser.add_argument("--recipe", default="{}", help="JSON: what differs of a new learner's")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        call_command(
            "seed_demo",
            robots=options["robots"],
            # One at least: `make run` itself looks at the fleet with a scripted operator's token.
            operators=max(1, options["operators"]),
            tasks=options["tasks"],
            reset_s=options["reset_s"],
            # One machine, bound to loopback; production makes its own people.
            insecure_demo_passwords=not settings.PRODUCTION,
        )
        base = {"base": options["base"]} if options["base"] else {}
        recipe = json.loads(options["recipe"])
        call_command("seed_learner", start=True, seed=options["seed"], recipe=recipe, **base)
