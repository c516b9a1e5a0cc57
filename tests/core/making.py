"""Episodes and a small policy for the tests of the buffer, the sampler and the learners."""

import uuid

import numpy as np
import simplejpeg
import torch
from torch import nn

from fleet.protocol.control import Controller
from fleet.protocol.episode import (
    EpisodeHeader,
    EpisodeManifest,
    PartRef,
    Step,
    encode_part,
    open_part,
    sha256_of,
)
from fleet.protocol.spec import Camera, RobotSpec, TaskSpec
from learning.core.buffer import ReplayBuffer
from learning.core.decode import stack_images
from learning.core.policies.base import Policy, PolicyConfig
from learning.core.records import record_from
from learning.core.text import tokenize

SPEC = RobotSpec(
    embodiment="test",
    control_hz=20.0,
    action_names=("x", "y", "z", "grip"),
    action_low=(-1.0,) * 4,
    action_high=(1.0,) * 4,
    action_slew=(0.2,) * 4,
    state_names=("x", "y", "z", "grip"),
    cameras=(
        Camera(name="corner", width_px=32, height_px=32),
        Camera(name="wrist", width_px=32, height_px=32),
    ),
    simulated=True,
)
CONFIG = PolicyConfig(
    kind="tiny",
    state_dim=4,
    action_dim=4,
    cameras=("corner", "wrist"),
    image_px=16,
    horizon=8,
    execute=4,
    width=32,
    action_low=SPEC.action_low,
    action_high=SPEC.action_high,
)
BLIND = PolicyConfig(kind="tiny", state_dim=4, action_dim=4, image_px=16, horizon=8, width=32)
CONTROLLER_OF = {
    0: Controller.POLICY,
    1: Controller.OPERATOR,
    2: Controller.BLEND,
    3: Controller.HOLD,
}


class Store:
    """Parts by sha256, in memory, and how often each was opened."""

    def __init__(self):
        self.bytes = {}
        self.opened = []

    def open_part(self, sha256):
        self.opened.append(sha256)
        return open_part(self.bytes[sha256])

    def make(
        self,
        *,
        modes=(0,) * 20,
        flagged=(),
        task="reach",
        instruction="reach the red cube",
        paraphrases=(),
        purpose="train",
        outcome="success",
        complete=True,
        steps_per_part=1000,
        images=True,
        spec=SPEC,
        closed_seq=1,
        jpegs=None,
        seed=0,
        actions=None,
    ):
        """Store an episode whose step i has state i and action i / 1000; return its record."""
        rng = np.random.default_rng(seed)
        header = EpisodeHeader(
            episode=str(uuid.UUID(bytes=rng.bytes(16))),
            robot="r1",
            task=TaskSpec(name=task, instruction=instruction, paraphrases=paraphrases),
            instruction=instruction,
            seed=seed,
            purpose=purpose,
            spec=spec,
            started_wall_ns=0,
            policy_number=3,
        )
        refs, parts = [], []
        for index, first in enumerate(range(0, len(modes), steps_per_part)):
            steps = []
            for i in range(first, min(first + steps_per_part, len(modes))):
                pictures = {}
                if images is True or (images and images[i]):
                    for k, camera in enumerate(spec.cameras):
                        pictures[camera.name] = (
                            jpegs[(i + k) % len(jpegs)]
                            if jpegs
                            else picture(40 * k + i % 100, camera.width_px)
                        )
                action = np.full(4, i / 1000, np.float32) if actions is None else actions[i]
                steps.append(
                    Step(
                        step=i,
                        t_mono_ns=i,
                        t_wall_ns=i,
                        state=np.full(4, i, np.float32),
                        action=action,
                        control_mode=modes[i],
                        controller=CONTROLLER_OF[modes[i]],
                        policy_number=3,
                        before_takeover=i in flagged,
                        images=pictures,
                    )
                )
            data = encode_part(header, steps, index=index)
            sha256 = sha256_of(data)
            self.bytes[sha256] = data
            parts.append(open_part(data))
            refs.append(
                PartRef(
                    index=index,
                    sha256=sha256,
                    size_bytes=len(data),
                    first_step=first,
                    steps=len(steps),
                )
            )
        manifest = EpisodeManifest(
            header=header,
            ended_wall_ns=1,
            steps=len(modes),
            outcome=outcome,
            judge="robot",
            parts=tuple(refs),
            complete=complete,
        )
        return record_from(manifest, parts, closed_seq=closed_seq)


def picture(value, side):
    """Return a JPEG of one grey level."""
    return simplejpeg.encode_jpeg(np.full((side, side, 3), value, np.uint8), quality=95)


class EveryStep:
    """Rules under which every step is a sample and a target."""

    def targets(self, record):
        return np.ones(len(record), bool)

    def samples(self, record):
        return np.ones(len(record), bool)


def buffer_of(store, records=(), *, config=CONFIG, rules=None, **kwargs):
    """Return a buffer over `store` that holds `records`."""
    buffer = ReplayBuffer(config, rules or EveryStep(), store.open_part, **kwargs)
    for record in records:
        buffer.add(record)
    return buffer


class TinyPolicy(Policy):
    """Two layers over the state, the mean colour of each camera, and the words."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.text_buckets, 8, padding_idx=0)
        self.trunk = nn.Sequential(
            nn.Linear(config.state_dim + 3 * len(config.cameras) + 8, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.horizon * config.action_dim),
        )

    def forward(self, images, state, tokens):
        colours = images.float().div(127.5).sub(1).mean((-1, -2)).flatten(1)  # (b, 3 k)
        x = torch.cat([colours, state / 10, self.words(tokens).mean(1)], -1)
        # Noise, as augmentation has it: the global generator must survive a resume.
        if self.training:
            x = x + 1e-3 * torch.randn_like(x)
        return self.trunk(x).unflatten(-1, (self.config.horizon, self.config.action_dim))

    def act(self, observation):
        images = stack_images(observation.images, self.config.cameras, self.config.image_px)
        with torch.no_grad():
            chunk = self(
                torch.from_numpy(images)[None],
                torch.from_numpy(observation.state)[None],
                torch.tensor(tokenize(observation.instruction))[None],
            )[0]
        return chunk, float("nan")

    def loss(self, batch):
        error = (self(batch.images, batch.state, batch.tokens) - batch.action).abs().mean(-1)
        return (error * batch.mask).sum(1) / batch.mask.sum(1).clamp_min(1)
