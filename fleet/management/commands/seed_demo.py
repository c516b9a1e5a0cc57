"""The simulated fleet: tasks, robots with their configuration files, one user of each role."""

import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from fleet.models import FleetSettings, Role, Task
from fleet.protocol.simulation import TASKS
from fleet.services import operators, robots

# Families of the paper's tasks, by which pages group them.
FAMILIES = {
    "shelf-place": "restocking",
    "bin-picking": "restocking",
    "drawer-open": "restocking",
    "box-close": "box assembly",
    "peg-insert-side": "box assembly",
    "hammer": "box assembly",
}


class Command(BaseCommand):
    help = (
        "Seed tasks, simulated robots, one user of each role and scripted operators. Safe to "
        "repeat: tokens and passwords that exist are kept."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--robots", type=int, default=4)
        parser.add_argument("--operators", type=int, default=1, help="scripted ones")
        parser.add_argument("--tasks", default="", help="comma-separated; empty for all")
        parser.add_argument("--reset-s", type=float, help="pause for a reset, of a new fleet")
        parser.add_argument("--server", default=os.environ.get("SOP_SERVER", ""))
        parser.add_argument(
            "--insecure-demo-passwords",
            action="store_true",
            help="password = user name; for one machine, bound to loopback",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["insecure_demo_passwords"] and settings.PRODUCTION:
            raise CommandError("no demonstration passwords in production (SOP_PRODUCTION=1)")
        with transaction.atomic():
            self._tasks([name for name in options["tasks"].split(",") if name])
            self._settings(options["reset_s"])
            self._robots(options["robots"], options["server"] or "http://127.0.0.1:8000")
            self._operators(options["operators"], insecure=options["insecure_demo_passwords"])

    def _settings(self, reset_s: float | None) -> None:
        if FleetSettings.objects.exists():
            return
        fresh = FleetSettings(pk=1)
        try:
            if reset_s is not None:
                # As a form would read it, which refuses what is no number.
                fresh.reset_s = forms.FloatField().clean(reset_s)
            fresh.full_clean()
        except ValidationError as error:
            raise CommandError(
                f"--reset-s {reset_s} is not possible: {'; '.join(error.messages)}"
            ) from error
        fresh.save()

    def _tasks(self, chosen: list[str]) -> None:
        known = {task.name for task in TASKS}
        if unknown := set(chosen) - known:
            raise CommandError(
                f"there is no task {', '.join(sorted(unknown))}; "
                f"choose from {', '.join(sorted(known))}"
            )
        for spec in TASKS:
            enabled = not chosen or spec.name in chosen
            task, created = Task.objects.get_or_create(
                name=spec.name,
                defaults={
                    "title": spec.name.replace("-", " ").capitalize(),
                    "instruction": spec.instruction,
                    "paraphrases": list(spec.paraphrases),
                    "family": FAMILIES.get(spec.name, "stretch"),
                    "timeout_ticks": spec.timeout_ticks,
                    "weight": spec.weight,
                    "layout_low": spec.layout_low,
                    "layout_high": spec.layout_high,
                    "enabled": enabled,
                },
            )
            if not created and task.enabled != enabled:
                Task.objects.filter(pk=task.pk).update(enabled=enabled)

    def _robots(self, count: int, server: str) -> None:
        folder = settings.SOP_VAR / "robots"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            name = f"robot-{number}"
            path = folder / f"{name}.json"
            robot, token = robots.register_robot(name=name)
            if token is None and not path.exists():
                token = robots.issue_token(robot)
            if token is not None:
                _write_private(path, _configuration(name, token, server))

    def _people(self, *, insecure: bool) -> list[dict[str, str]]:
        """Return the accounts made now, with their passwords."""
        entries = []
        for role in Role:
            _, password = operators.register_person(
                name=role.value, role=role, password=role.value if insecure else None
            )
            if password:
                entry = {"name": role.value, "kind": "human", "role": role.value}
                entries.append(entry | {"password": password})
        return entries

    def _scripts(self, count: int, known: set[str]) -> list[dict[str, str]]:
        """Return the scripted operators that got a token now."""
        entries = []
        for number in range(1, count + 1):
            name = f"script-{number}"
            token = operators.register_script(name=name, keep=name in known)
            if token is not None:
                entry = {"name": name, "kind": "scripted", "role": "operator", "token": token}
                entries.append(entry)
        return entries

    def _operators(self, count: int, *, insecure: bool) -> None:
        """Write who may sign in as what: people for the terminal, scripts for their process."""
        path = settings.SOP_VAR / "operators.json"
        entries = {e["name"]: e for e in json.loads(path.read_text())} if path.exists() else {}
        people = self._people(insecure=insecure)
        scripts = self._scripts(count, set(entries))
        entries |= {entry["name"]: entry for entry in (*people, *scripts)}
        _write_private(path, json.dumps(list(entries.values()), indent=1) + "\n")
        if people:
            lines = "".join(f"{e['name']}\t{e['password']}\n" for e in people)
            _write_private(settings.SOP_VAR / "logins.txt", lines)
            self.stdout.write(f"Logins, user and password, also in logins.txt:\n{lines}")


def _configuration(name: str, token: str, server: str) -> str:
    values = {
        "robot": name,
        "server": server,
        "token": token,
        "spool": str(settings.SOP_VAR / "spool" / name),
        "driver": "metaworld",
    }
    return json.dumps(values, indent=1) + "\n"


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, in one step."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)
