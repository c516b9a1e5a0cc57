"""Behaviour cloning on a folder of demonstrations, all of it in memory: how base policies are made.

The learners of the running system are in `learning/core/learners/`; this is the short loop that
comes before them, with the same network, loss, images and words.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fleet.protocol.episode import Part, decode_manifest, open_part
from fleet.protocol.spec import RobotSpec
from learning.core.decode import decode_image
from learning.core.normalize import state_statistics
from learning.core.policies.base import Policy, PolicyConfig, build_policy
from learning.core.seeding import seed_everything
from learning.core.text import tokenize
from learning.core.types import Batch


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a base policy is trained."""

    steps: int = 5000
    # Samples of each task in a batch.
    per_task: int = 10
    # Falls to zero along a half cosine.
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    # Decay of the running mean of the weights, a step; the mean is what is shipped.
    average: float = 0.97
    seed: int = 0


class Samples:
    """The samples of some episodes as arrays; grows by `add`."""

    def __init__(self, config: PolicyConfig) -> None:
        self.config = config
        self.tasks: list[str] = []
        self.states: list[np.ndarray] = []
        self._images: list[np.ndarray] = []  # uint8 (k, c, ih, iw)
        self._state: list[np.ndarray] = []
        self._action: list[np.ndarray] = []  # (h, a)
        self._mask: list[np.ndarray] = []  # (h,)
        self._words: list[np.ndarray] = []  # (wordings, l)
        self._rows: list[list[int]] = []

    def add_part(self, part: Part) -> None:
        """Add a whole demonstration that was recorded as one part."""
        cameras = self.config.cameras
        steps = part.table.num_rows
        rows = [t for t in range(steps) if all(part.image(c, t) for c in cameras)]
        images = np.empty((len(rows), len(cameras), 3, *(self.config.image_px,) * 2), np.uint8)
        for i, t in enumerate(rows):
            for k, camera in enumerate(cameras):
                images[i, k] = decode_image(part.image(camera, t) or b"", self.config.image_px)
        task = part.header.task
        self.add(
            task.name,
            (task.instruction, *task.paraphrases),
            images,
            part.array("state"),
            part.array("action"),
            np.ones(steps, bool),
            np.array(rows),
        )

    def add(
        self,
        task: str,
        wordings: tuple[str, ...],
        images: np.ndarray,
        state: np.ndarray,
        action: np.ndarray,
        target: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """Add one episode.

        Args:
            task: Its name; batches are balanced over names.
            wordings: Of the instruction; one is drawn for each sample.
            images: uint8 (n, k, c, ih, iw), those of `rows`.
            state: float32 (t, s).
            action: float32 (t, a).
            target: bool (t,): steps that may be imitated; a chunk ends before one that may not.
            rows: int (n,): steps that have images and so start a chunk.
        """
        if task not in self.tasks:
            self.tasks.append(task)
            self._rows.append([])
        words = np.stack([tokenize(w, buckets=self.config.text_buckets) for w in wordings])
        self.states.append(state)
        h = self.config.horizon
        for image, t in zip(images, rows, strict=True):
            if not target[t]:
                continue
            chunk = np.zeros((h, action.shape[1]), np.float32)
            ahead = action[t : t + h]
            chunk[: len(ahead)] = ahead
            mask = np.zeros(h, bool)
            mask[: len(ahead)] = np.logical_and.accumulate(target[t : t + h])
            self._rows[self.tasks.index(task)].append(len(self._state))
            self._images.append(image)
            self._state.append(state[t])
            self._action.append(chunk)
            self._mask.append(mask)
            self._words.append(words)

    def __len__(self) -> int:
        return len(self._state)

    def draw(self, per_task: int, generator: np.random.Generator) -> Batch:
        """Return `per_task` samples of each task, drawn with replacement."""
        rows: list[int] = []
        for own in self._rows:
            rows += [own[i] for i in generator.integers(len(own), size=per_task)]
        words = [self._words[r][generator.integers(len(self._words[r]))] for r in rows]
        return Batch(
            images=torch.from_numpy(np.stack([self._images[r] for r in rows])),
            state=torch.from_numpy(np.stack([self._state[r] for r in rows])),
            tokens=torch.from_numpy(np.stack(words)),
            action=torch.from_numpy(np.stack([self._action[r] for r in rows])),
            mask=torch.from_numpy(np.stack([self._mask[r] for r in rows])),
            task=torch.arange(len(self._rows)).repeat_interleave(per_task),
            online=torch.zeros(len(rows), dtype=torch.bool),
            row=torch.tensor(rows),
        )


def policy_config(spec: RobotSpec) -> PolicyConfig:
    """Return the configuration of a policy for a robot: "image" where it has cameras."""
    return PolicyConfig(
        kind="image" if spec.cameras else "state",
        state_dim=len(spec.state_names),
        action_dim=len(spec.action_names),
        cameras=tuple(camera.name for camera in spec.cameras),
        action_low=spec.action_low,
        action_high=spec.action_high,
    )


def read_demonstrations(folder: Path) -> Iterator[Part]:
    """Yield the single part of each episode in `folder`, in the order of their uids."""
    for manifest in sorted(folder.glob("*/manifest.json")):
        decode_manifest(manifest.read_bytes())
        yield open_part(str(manifest.parent / "part-0000.arrow"))


def average_into(mean: Policy, policy: Policy, decay: float) -> None:
    """Move the running mean of the weights one step towards `policy`."""
    with torch.no_grad():
        torch._foreach_lerp_(list(mean.parameters()), list(policy.parameters()), 1 - decay)


def train(
    samples: Samples,
    recipe: Recipe,
    *,
    watch: Callable[[int, float, Policy], None] = lambda *_: None,
) -> Policy:
    """Train a new policy and return the running mean of its weights, in eval mode.

    Args:
        samples: What to imitate.
        recipe: Steps, rates and seed; the same recipe and samples give the same policy.
        watch: Called every 500 steps with the step, the mean loss since the last call, and the
            running mean.
    """
    generator = seed_everything(recipe.seed)
    policy, mean = build_policy(samples.config), build_policy(samples.config)
    policy.normalizer.fit(*state_statistics(samples.states))
    mean.load_state_dict(policy.state_dict())
    optimiser = torch.optim.AdamW(
        policy.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, recipe.steps)
    policy.train()
    losses = []
    for step in tqdm(range(1, recipe.steps + 1), "training", mininterval=2.0):
        loss = policy.loss(samples.draw(recipe.per_task, generator)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        average_into(mean, policy, recipe.average)
        losses.append(float(loss.detach()))
        if step % 500 == 0:
            watch(step, float(np.mean(losses[-500:])), mean.eval())
    return mean.eval()
