"""Episodes for the agent's tests."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import numpy as np

from fleet.agent.recorder import EpisodeEnd, EpisodeWriter, RecordedTick
from fleet.agent.spool import Spool
from fleet.protocol.control import ControlLabel, Controller, Lease, Mode
from fleet.protocol.episode import EpisodeHeader, EpisodeManifest, Part, Step, open_part
from tests.fakes import SPEC, TASK

_wall_ns = itertools.count(1_700_000_100_000_000_000, 1_000_000_000)
IMAGE = np.full((24, 32, 3), 90, np.uint8)
_CONTROLLERS = {
    ControlLabel.POLICY: Controller.POLICY,
    ControlLabel.HUMAN: Controller.OPERATOR,
    ControlLabel.TRANSITION: Controller.OPERATOR,
    ControlLabel.NONE: Controller.HOLD,
}


def header(**fields: Any) -> EpisodeHeader:
    values: dict[str, Any] = {
        "episode": str(uuid.uuid4()),
        "robot": "robot-1",
        "task": TASK,
        "instruction": TASK.instruction,
        "seed": 3,
        "purpose": "train",
        "spec": SPEC,
        "started_wall_ns": 1_700_000_000_000_000_000,
        "policy_number": 2,
    }
    return EpisodeHeader(**(values | fields))


def tick(
    index: int = 0,
    label: ControlLabel = ControlLabel.POLICY,
    *,
    mode: Mode | None = None,
    lease: Lease | None = None,
    doubt: float = 0.25,
    dead_man: bool = False,
    command_age_ms: float = float("nan"),
) -> RecordedTick:
    driven = label in (ControlLabel.HUMAN, ControlLabel.TRANSITION)
    if mode is None:
        mode = {
            ControlLabel.POLICY: Mode.AUTONOMOUS,
            ControlLabel.HUMAN: Mode.TAKEOVER,
            ControlLabel.TRANSITION: Mode.HANDOVER,
            ControlLabel.NONE: Mode.HOLDING,
        }[label]
    return RecordedTick(
        step=Step(
            step=index,
            t_mono_ns=1000 + index * 50_000_000,
            t_wall_ns=1_700_000_000_000_000_000 + index * 50_000_000,
            state=np.full(2, index, np.float32),
            action=np.zeros(3, np.float32),
            policy_action=np.full(3, 0.5, np.float32),
            control_mode=int(label),
            controller=_CONTROLLERS[label],
            policy_number=2,
            lease_epoch=lease.epoch if lease else int(driven),
            doubt=doubt,
            command_age_ms=command_age_ms,
        ),
        images={"front": IMAGE} if index % 2 == 0 else {},
        mode=mode,
        lease=lease or (Lease(epoch=1, holder="ada") if driven else None),
        dead_man=dead_man,
        rtt_ms=4.0,
    )


def end(outcome: str = "success") -> EpisodeEnd:
    """Return the end of an episode, later than every end before it."""
    return EpisodeEnd(outcome=outcome, judge="robot", ended_wall_ns=next(_wall_ns))


def spool_episode(spool: Spool, steps: int = 30, **fields: Any) -> EpisodeManifest:
    writer = EpisodeWriter(spool, header(**fields))
    for index in range(steps):
        writer.add(tick(index))
    manifest = writer.end(end())
    assert manifest is not None
    return manifest


def parts(spool: Spool, manifest: EpisodeManifest) -> list[Part]:
    return [open_part(spool.part(manifest.header.episode, p.index)) for p in manifest.parts]


def column(spool: Spool, manifest: EpisodeManifest, name: str) -> np.ndarray:
    return np.concatenate([part.array(name) for part in parts(spool, manifest)])
