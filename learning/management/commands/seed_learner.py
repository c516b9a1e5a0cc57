"""Create the learner of a fresh installation, with its base policy as version 1."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from learning.models import Learner
from learning.services.learners import seed_learner, start_learner
from learning.services.policies import import_version
from learning.services.recipes import default_recipe

BASE_POLICY = Path(settings.BASE_DIR) / "learning" / "assets" / "base_policy.safetensors"


class Command(BaseCommand):
    help = (
        "Create the learner and publish the base policy to every robot. Safe to repeat: what is"
        " there is left as it is."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--name", default="hg-dagger")
        parser.add_argument("--algorithm", default="hg_dagger", help="a file of core/learners")
        parser.add_argument("--base", type=Path, default=BASE_POLICY)
        parser.add_argument("--seed", type=int, default=0, help="of a new learner's draws")
        parser.add_argument(
            "--recipe", type=json.loads, default={}, help="JSON: what differs of a new one's recipe"
        )
        parser.add_argument("--start", action="store_true", help="let it train")

    def handle(
        self,
        *,
        name: str,
        algorithm: str,
        base: Path,
        start: bool,
        seed: int,
        recipe: dict[str, Any],
        **_: Any,
    ) -> None:
        try:
            artifact = base.read_bytes()
        except OSError as error:
            raise CommandError(f"no base policy at {base}: {error.strerror}") from None
        existed = Learner.objects.filter(name=name).exists()
        complete = {**default_recipe(algorithm), "seed": seed, **recipe}
        learner = seed_learner(name, complete, algorithm=algorithm)
        version = import_version(learner, artifact=artifact, gate={"imported": base.name})
        if start and not existed:
            # Once only: a learner that somebody paused stays paused.
            start_learner(name)
        self.stdout.write(f"learner {name}: base policy is version {version.number}")
