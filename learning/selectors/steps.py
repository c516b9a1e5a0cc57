"""What an episode recorded at each step, read from its parts without its pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fleet.protocol.control import ControlLabel
from fleet.protocol.episode import CONTROLLERS, Part
from learning.models import Episode
from learning.selectors.replay import part_of

# Steps in one answer; a page asks for the block around the step it shows.
BLOCK = 200
# Points of a curve over a whole episode: more than a screen has columns.
POINTS = 600
_VECTORS = ("state", "action", "policy_action", "operator_action")
_NUMBERS = ("doubt", "reward", "command_age_ms")
_COUNTS = ("policy_number", "lease_epoch", "chunk_index")


@dataclass(frozen=True, slots=True)
class Names:
    """What the numbers of a state and of an action are called, as the robot's spec says."""

    state: tuple[str, ...]
    action: tuple[str, ...]


def block(episode: Episode, first: int) -> dict[str, Any]:
    """Return up to `BLOCK` steps from `first` on, ready for JSON; what is no number is None.

    `steps` holds one object a step: `step`, `t_s` since the episode's first step, the vectors
    `state`, `action`, `policy_action` and `operator_action`, `controller`, `control`,
    `policy_number`, `lease_epoch`, `chunk_index`, `doubt`, `reward`, `command_age_ms`,
    `before_takeover` and, where the robot computed it, `value`.

    Raises:
        BlobMissing, StoreUnavailable, Unprocessable: As `part_of` raises them.
    """
    rows: list[dict[str, Any]] = []
    names = None
    began_ns = next((part.table["t_mono_ns"][0].as_py() for part in _parts(episode, 0, 1)), 0)
    for part in _parts(episode, first, first + BLOCK):
        names = Names(part.header.spec.state_names, part.header.spec.action_names)
        start = max(0, first - part.first_step)
        rows += _rows(part, start, start + BLOCK - len(rows), began_ns)
    return {
        "first": first,
        "block": BLOCK,
        "total": episode.steps,
        "state_names": list(names.state) if names else [],
        "action_names": list(names.action) if names else [],
        "steps": rows,
    }


def curves(episode: Episode) -> dict[str, Any]:
    """Return doubt, value, reward, state and action over an episode, thinned to `POINTS`, for JSON.

    Raises as `block` does.
    """
    parts = list(_parts(episode, 0, 2**31))
    if not parts:
        return {"steps": [], "curves": []}
    spec = parts[0].header.spec
    stride = max(1, -(-sum(part.table.num_rows for part in parts) // POINTS))
    columns = {
        name: np.concatenate([part.array(name) for part in parts])[::stride]
        for name in (
            *("step", "doubt", "reward", "state", "action", "policy_action"),
            *_value(parts[0]),
        )
    }
    found: list[dict[str, Any]] = [
        {"name": name, "values": _listed(columns[name])}
        for name in ("doubt", *_value(parts[0]), "reward")
        if np.isfinite(columns[name]).any()
    ]
    for i, name in enumerate(spec.action_names):
        found.append(
            {
                "name": f"action {name}",
                "values": _listed(columns["action"][:, i]),
                "proposed": _listed(columns["policy_action"][:, i]),
            }
        )
    for i, name in enumerate(spec.state_names):
        found.append({"name": f"state {name}", "values": _listed(columns["state"][:, i])})
    return {"steps": columns["step"].tolist(), "curves": found}


def _value(part: Part) -> tuple[str, ...]:
    return ("value",) if part.header.value_sha256 else ()


def _parts(episode: Episode, first: int, end: int) -> Iterator[Part]:
    for row in sorted(episode.parts.all(), key=lambda row: row.index):
        if row.first_step < end and row.first_step + row.steps > first:
            yield part_of(row.sha256)


def _rows(part: Part, start: int, stop: int, began_ns: int) -> list[dict[str, Any]]:
    kept = Part(part.header, part.index, part.table.slice(start, stop - start))
    columns: dict[str, list[Any]] = {
        "step": kept.array("step").tolist(),
        "t_s": ((kept.array("t_mono_ns") - began_ns) / 1e9).round(3).tolist(),
        "controller": [CONTROLLERS[i].value for i in kept.array("controller")],
        "control": [ControlLabel(int(i)).name.lower() for i in kept.array("control_mode")],
        "before_takeover": kept.array("before_takeover").tolist(),
    }
    for name in (*_VECTORS, *_NUMBERS, *_value(kept)):
        columns[name] = _listed(kept.array(name))
    for name in _COUNTS:
        columns[name] = kept.array(name).tolist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def _listed(values: np.ndarray) -> list[Any]:
    """Return floats with five places as lists; NaN and infinity become None."""
    rounded = np.round(values.astype(np.float64), 5)
    out = rounded.astype(object)
    out[~np.isfinite(rounded)] = None
    return out.tolist()
