"""The control arm: as many updates from the same base, on the demonstrations alone, off the clock.

Without it a rise of success could be no more than a base policy that was trained too little.
Same learner, same trainer, same batch, same demonstrations; only the online buffer stays empty.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fleet.protocol.episode import Part, decode_manifest, open_part


def train_control(
    base: bytes,
    demonstrations: Path,
    *,
    updates: int,
    algorithm: str = "hg_dagger",
    learner: Mapping[str, Any] | None = None,
    batch_size: int = 60,
    seed: int = 0,
    progress: bool = False,
) -> bytes:
    """Return the artifact after `updates` gradient steps on demonstrations.

    Args:
        base: The artifact to start from.
        demonstrations: Folder of `<uid>/manifest.json` and parts.
        updates: Gradient steps.
        algorithm: The learner's name.
        learner: Its options, as the online learner had them.
        batch_size: As the online learner had it.
        seed: Of the draws.
        progress: Show a bar.

    Raises:
        FileNotFoundError: The folder holds no demonstration.
    """
    import torch

    from learning.core.allocation import keep_freed_memory
    from learning.core.buffer import ReplayBuffer
    from learning.core.learners.base import build_learner
    from learning.core.policies.base import load_policy, save_policy
    from learning.core.records import record_from
    from learning.core.sampler import FixedMixture
    from learning.core.trainer import Trainer

    torch.set_num_threads(1)
    keep_freed_memory()
    manifests = sorted(demonstrations.glob("*/manifest.json"))
    if not manifests:
        raise FileNotFoundError(f"no demonstrations in {demonstrations}")
    paths: dict[str, Path] = {}

    def open_stored(sha256: str) -> Part:
        return open_part(str(paths[sha256]))

    policy = load_policy(base)
    rules = build_learner(algorithm, policy, learner)
    buffer = ReplayBuffer(policy.config, rules, open_stored)
    for number, path in enumerate(manifests, start=1):
        manifest = decode_manifest(path.read_bytes())
        for ref in manifest.parts:
            paths[ref.sha256] = path.parent / f"part-{ref.index:04d}.arrow"
        parts = [open_stored(ref.sha256) for ref in manifest.parts]
        buffer.add(record_from(manifest, parts, closed_seq=number))
    # With nothing online every mixture draws offline only; the plainest says so.
    trainer = Trainer(rules, buffer, FixedMixture(), seed=seed, batch_size=batch_size)
    for _ in tqdm(range(updates), "control", disable=not progress, mininterval=2.0):
        trainer.step()
    return save_policy(rules.policy)
