"""A robot of one's own: registered, with the token that its agent connects with."""

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from fleet.models import Robot
from fleet.services import robots


class Command(BaseCommand):
    help = (
        "Register a robot and print its token, this once, on standard output. --new-token replaces "
        "the token of a robot that exists; the old one is refused from then on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--site", default="", help="where it stands; pages filter by it")
        parser.add_argument("--new-token", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["name"]
        try:
            robot, token = robots.register_robot(
                name=name, kind=Robot.Kind.REAL, site=options["site"]
            )
        except ValidationError as error:
            raise CommandError(f"{name!r} is not possible: {' '.join(error.messages)}") from None
        if token is None:
            if not options["new_token"]:
                raise CommandError(f"{name} is registered; --new-token gives it another token")
            token = robots.issue_token(robot)
        self.stdout.write(token)
        self.stderr.write(
            f"That is {name}'s token, shown this once. With it in SOP_ROBOT_TOKEN, on the robot:\n"
            f"python -m fleet.agent --robot {name} --server URL --spool FOLDER --driver "
            "package.module:Class"
        )
