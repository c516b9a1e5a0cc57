"""The learner on a virtual clock: the product's buffer, sampler, trainer, gate and artifacts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleet.protocol.episode import EpisodeManifest, Part, decode_manifest, open_part, sha256_of
from fleet.protocol.spec import PolicyRef
from learning.core.buffer import ReplayBuffer
from learning.core.gate import sanity_gate
from learning.core.learners.base import build_learner
from learning.core.payload import observations_of
from learning.core.policies.base import load_policy, save_policy
from learning.core.records import EpisodeRecord, NotTrainable, record_from
from learning.core.sampler import Sampler
from learning.core.trainer import NothingToLearn, Trainer
from learning.core.types import Observation

if TYPE_CHECKING:
    from learning.experiments.virtual.sidecars import Sidecars

# What the sanity gate looks at: as many episodes and frames of each as the running system.
GATE_EPISODES = 6
GATE_FRAMES = 2


class PartStore:
    """Parts as files named by their content, mapped into memory when they are read."""

    def __init__(self, folder: Path) -> None:
        """Keep parts in `folder`; what lies there already is known."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._elsewhere: dict[str, Path] = {}

    def put(self, data: bytes) -> str:
        """Store a part and return its sha256; the second time nothing happens."""
        sha256 = sha256_of(data)
        path = self._folder / sha256
        if not path.exists():
            # Not synced: a run that is interrupted starts over.
            beside = path.with_name(sha256 + ".part")
            beside.write_bytes(data)
            os.replace(beside, path)
        return sha256

    def adopt(self, sha256: str, path: Path) -> None:
        """Know a part that lies somewhere else."""
        self._elsewhere[sha256] = path

    def open(self, sha256: str) -> Part:
        """Return a part. Raises BadEpisode."""
        return open_part(str(self._elsewhere.get(sha256, self._folder / sha256)))


@dataclass(frozen=True, slots=True)
class Announced:
    """A version that passed the gate."""

    ref: PolicyRef
    artifact: bytes
    step: int
    t_s: float


class VirtualLearner:
    """Indexes episodes, steps, and makes versions; knows no time but what it is told."""

    def __init__(
        self,
        base: bytes,
        demonstrations: Path,
        *,
        algorithm: str,
        options: Mapping[str, Any],
        sampler: Sampler,
        batch_size: int,
        seed: int,
        store: PartStore,
        experience: Path | None = None,
        value_steps: int = 1000,
    ) -> None:
        """Start from `base` with the demonstrations indexed.

        Args:
            base: The artifact to go on from.
            demonstrations: Folder of `<uid>/manifest.json` and parts: the offline buffer.
            algorithm: A learner's registered name.
            options: Of the learner.
            sampler: Decides the mixture.
            batch_size: Samples a step.
            seed: Of the draws.
            store: Where parts of online episodes are put.
            experience: Folder of judged episodes that value functions are fitted to before the
                run, for learners that are told indicators; written like demonstrations.
            value_steps: Gradient steps of such a fit.

        Raises:
            UnknownLearner: No such learner, or options that are not its.
            FileNotFoundError: The folder holds no demonstration.
        """
        policy = load_policy(base)
        self.store = store
        self.learner = build_learner(algorithm, policy, options)
        self.buffer = ReplayBuffer(policy.config, self.learner, store.open)
        self.trainer = Trainer(self.learner, self.buffer, sampler, seed=seed, batch_size=batch_size)
        self.number = 0
        self.published_step = 0
        self.rejected = 0
        self.episodes = 0
        self._seq = 0
        self._last_loss: float | None = None
        self._gate_frames: list[Observation] = []
        self._sidecars: Sidecars | None = None
        # Kept only for those who derive from them again.
        self._records: list[EpisodeRecord] = []
        manifests = self._adopt(demonstrations)
        if getattr(self.learner, "uses_indicators", False):
            from learning.experiments.virtual import sidecars

            if experience is None:
                raise FileNotFoundError(f"{algorithm} needs judged episodes to value steps by")
            past = [self._record(manifest) for manifest in self._adopt(experience)]
            demonstrated = [self._record(manifest) for manifest in manifests]
            self._sidecars = sidecars.Sidecars(
                [*demonstrated, *past], store.open, policy.config, steps=value_steps, seed=seed
            )
        for manifest in manifests:
            self._add(manifest)

    def _adopt(self, folder: Path) -> list[EpisodeManifest]:
        """Know the episodes of a folder, in the order of their uids."""
        paths = sorted(folder.glob("*/manifest.json"))
        if not paths:
            raise FileNotFoundError(f"no episodes in {folder}")
        manifests = []
        for path in paths:
            manifest = decode_manifest(path.read_bytes())
            for ref in manifest.parts:
                self.store.adopt(ref.sha256, path.parent / f"part-{ref.index:04d}.arrow")
            manifests.append(manifest)
        return manifests

    def _record(self, manifest: EpisodeManifest) -> EpisodeRecord:
        parts = [self.store.open(ref.sha256) for ref in manifest.parts]
        return record_from(manifest, parts, closed_seq=self._seq)

    def index(self, manifest: EpisodeManifest, parts: Sequence[bytes]) -> None:
        """Store and index an episode that was uploaded; one that no learner may see is left out."""
        for data in parts:
            self.store.put(data)
        if self._add(manifest):
            self.episodes += 1

    def _add(self, manifest: EpisodeManifest) -> bool:
        self._seq += 1
        try:
            record = self._record(manifest)
            if self._sidecars is not None:
                record = self._sidecars.annotated(record)
                self._records.append(record)
            self.buffer.add(record)
        except NotTrainable:
            return False
        cameras = self.learner.policy.config.cameras
        part = self.store.open(manifest.parts[0].sha256)
        shown = [i for i in range(part.table.num_rows) if record.has_image[i] or not cameras]
        shown = shown[:: max(1, len(shown) // GATE_FRAMES)][:GATE_FRAMES]
        frames = [*self._gate_frames, *observations_of(part, cameras, shown)]
        self._gate_frames = frames[-GATE_EPISODES * GATE_FRAMES :]
        return True

    def value_again(self) -> None:
        """Fit what values steps to all episodes so far, and derive every indicator again.

        What an offline iteration of RECAP begins with; nothing for learners without indicators.
        """
        if self._sidecars is None:
            return
        online = [record for record in self._records if record.online]
        self._sidecars.fit_again(online)
        for record in self._records:
            self.buffer.relabel(record.uid, self._sidecars.indicator(record))

    @property
    def correlations(self) -> list[float]:
        """Held-out Spearman correlation of each fit of a value function with the returns."""
        return [] if self._sidecars is None else list(self._sidecars.correlations)

    def step(self) -> bool:
        """Take one gradient step; False when there is nothing to learn from yet."""
        try:
            self._last_loss = self.trainer.step().loss
        except NothingToLearn:
            return False
        return True

    def publish(self, t_s: float) -> Announced | None:
        """Make a version of the present weights, or None when the sanity gate refuses it."""
        policy = self.learner.policy
        self.published_step = self.trainer.step_number
        result = sanity_gate(policy, self._gate_frames, self._last_loss)
        if not result.passed:
            self.rejected += 1
            return None
        artifact = save_policy(policy)
        self.number += 1
        ref = PolicyRef(
            number=self.number,
            sha256=sha256_of(artifact),
            url=f"memory:{self.number}",
            size_bytes=len(artifact),
        )
        return Announced(ref, artifact, self.trainer.step_number, t_s)
