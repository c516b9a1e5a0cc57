"""Import recorded episodes from a folder, through the same door as robots use."""

import hashlib
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from fleet.protocol.episode import BadEpisode, decode_manifest
from learning import tasks
from learning.exceptions import LearningError
from learning.models import Episode
from learning.services.ingest import close_episode, store_part


class Command(BaseCommand):
    help = (
        "Import demonstrations: FOLDER/<uid>/part-0000.arrow … and manifest.json. Episodes that"
        " are here already are skipped, so it can be repeated and interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *, folder: Path, verbosity: int = 1, **_: Any) -> None:
        folders = sorted(path.parent for path in folder.glob("*/manifest.json"))
        if not folders:
            raise CommandError(f"{folder} holds no episodes (<uid>/manifest.json)")
        closed = {str(uid) for uid in _closed()}
        imported = 0
        bar = tqdm(folders, desc="import", unit="episode", disable=verbosity == 0)
        for path in bar:
            if path.name not in closed:
                try:
                    _import(path)
                except (LearningError, BadEpisode, OSError) as error:
                    raise CommandError(f"{path}: {error}") from None
                imported += 1
        if verbosity:
            skipped = len(folders) - imported
            self.stdout.write(f"{imported} episodes imported, {skipped} were here already")
        tasks.enqueue_due_rounds()


def _closed() -> Any:
    return Episode.objects.filter(state=Episode.State.CLOSED).values_list("uid", flat=True)


def _import(folder: Path) -> None:
    manifest = decode_manifest((folder / "manifest.json").read_bytes())
    uid = UUID(manifest.header.episode)
    for ref in manifest.parts:
        data = (folder / f"part-{ref.index:04d}.arrow").read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        store_part(uid=uid, index=ref.index, data=data, sha256=sha256, robot=None)
    close_episode(uid=uid, manifest=manifest, robot=None)
