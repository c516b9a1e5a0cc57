"""The episode format: Arrow IPC parts with one row a step, and the manifest that closes an episode.

An episode is recorded once and must serve every learner (HG-DAgger, RECAP, Sirius weights, RLIF,
LWD), so each step carries what was seen, what was done, what the policy proposed, and who was in
control. Derived values (returns, advantages, weights) are never stored here. A part is
content-addressed by its sha256; an episode is visible to learners only when its manifest is stored.

Columns of a part, one row a step:
    step            int32    index in the episode, from 0
    t_mono_ns       int64    the robot's monotonic clock at observation
    t_wall_ns       int64    wall clock at observation
    image.<camera>  binary   JPEG, null on ticks without an image (RobotSpec.image_every)
    state           float32[s]  proprioceptive state
    action          float32[a]  executed, after limits, in the action's unit
    policy_action   float32[a]  proposed by the policy, also while a person drives; NaN when none
    operator_action float32[a]  commanded by the operator before limits; NaN when none
    control_mode    uint8    ControlLabel: 0 policy, 1 human, 2 transition, 3 nobody
    controller      uint8    index into CONTROLLERS
    policy_number   int32    version acting (or proposing); -1 when none
    lease_epoch     int32    0 when nobody held the robot
    doubt           float32  ensemble disagreement of the proposal; NaN when not computed
    reward          float32  the environment's dense reward; NaN when there is none
    before_takeover bool     within the last steps before a takeover: the policy's mistake
    command_age_ms  float32  age of the operator's command when applied; NaN when none
    chunk_index     int16    position of policy_action in its action chunk; -1 when none
    value           float32  V(o) by the robot, NaN when none; only where the header names how
"""

import hashlib
import io
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

from fleet.protocol.control import Controller
from fleet.protocol.messages import Outcome, Purpose, Value
from fleet.protocol.spec import Count, Epoch, Name, RobotSpec, Sha256, TaskSpec, Text

FORMAT_VERSION = 1
MAX_PART_BYTES = 64 * 1024 * 1024
MAX_PART_STEPS = 2000
MAX_PARTS = 500
MAX_INTERVENTIONS = 1000
# Steps before a takeover that are flagged as the policy's mistake (Sirius).
BEFORE_TAKEOVER_STEPS = 15
CONTROLLERS: tuple[Controller, ...] = (
    Controller.POLICY,
    Controller.OPERATOR,
    Controller.BLEND,
    Controller.HOLD,
)
_METADATA_KEY = b"sop"


class BadEpisode(ValueError):
    """An episode part or manifest that breaks the format."""


class EpisodeHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What is known when an episode starts; repeated in every part."""

    episode: Annotated[str, Meta(pattern=r"^[0-9a-f-]{36}$")]
    robot: Name
    task: TaskSpec
    # The words the policy was given: the task's instruction or one of its paraphrases.
    instruction: Text
    seed: int
    purpose: Purpose
    spec: RobotSpec
    started_wall_ns: int
    # The version acting; None where no policy acts (demonstrations).
    policy_number: int | None = None
    policy_sha256: Text = ""
    # The trial of an evaluation this is, by the attempt's name; empty for every other episode.
    trial: Text = ""
    # The value function the robot computed; None and empty: none, and no column `value`.
    value_number: Count | None = None
    value_sha256: Text = ""
    agent_version: Text = ""
    format_version: int = FORMAT_VERSION


class InterventionSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A maximal span of steps with an operator in control: start <= step < end."""

    start: Count
    end: Count
    epoch: Epoch
    operator: Text
    operator_kind: Text = "human"
    # Doubt at the step of the takeover; None when not computed.
    doubt: float | None = None
    # Value at the step of the takeover, likewise.
    value: Value | None = None


class LinkQuality(msgspec.Struct, frozen=True, kw_only=True):
    """How good the link was while an operator drove; milliseconds and counts over the episode."""

    command_age_p50_ms: float = 0.0
    command_age_p95_ms: float = 0.0
    rtt_p50_ms: float = 0.0
    dead_man_ticks: Count = 0
    discarded_commands: Count = 0


class PartRef(msgspec.Struct, frozen=True, kw_only=True):
    """One stored part of an episode."""

    index: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]
    sha256: Sha256
    size_bytes: Annotated[int, Meta(gt=0, le=MAX_PART_BYTES)]
    first_step: Count
    steps: Annotated[int, Meta(gt=0, le=MAX_PART_STEPS)]


class EpisodeManifest(msgspec.Struct, frozen=True, kw_only=True):
    """Closes an episode: its header, how it ended, and the parts it consists of."""

    header: EpisodeHeader
    ended_wall_ns: int
    steps: Count
    outcome: Outcome
    # Who judged: "robot" (the task's own success signal), or "operator:<name>".
    judge: Text
    parts: Annotated[tuple[PartRef, ...], Meta(max_length=MAX_PARTS)]
    interventions: Annotated[tuple[InterventionSpan, ...], Meta(max_length=MAX_INTERVENTIONS)] = ()
    link: LinkQuality = msgspec.field(default_factory=LinkQuality)
    # False when the agent died in it; such an episode is kept, and never trained on.
    complete: bool = True
    control_period_s: float = 0.05

    def __post_init__(self) -> None:
        first = 0
        for index, part in enumerate(self.parts):
            if part.index != index or part.first_step != first:
                raise ValueError(f"part {index} does not follow the one before it")
            first += part.steps
        if first != self.steps:
            raise ValueError(f"parts hold {first} steps, the manifest says {self.steps}")


@dataclass(frozen=True, slots=True)
class Step:
    """One recorded control period. Arrays are float32; `images` maps camera to JPEG bytes."""

    step: int
    t_mono_ns: int
    t_wall_ns: int
    state: np.ndarray
    action: np.ndarray
    policy_action: np.ndarray | None = None
    operator_action: np.ndarray | None = None
    control_mode: int = 0
    controller: Controller = Controller.POLICY
    policy_number: int = -1
    lease_epoch: int = 0
    doubt: float = float("nan")
    reward: float = float("nan")
    before_takeover: bool = False
    command_age_ms: float = float("nan")
    chunk_index: int = -1
    value: float = float("nan")
    images: dict[str, bytes] = field(default_factory=dict)


def part_schema(header: EpisodeHeader, *, index: int = 0) -> pa.Schema:
    """Return the Arrow schema of part `index`, with the header in its metadata."""
    s, a = len(header.spec.state_names), len(header.spec.action_names)
    f32 = pa.float32()
    fields = [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("t_mono_ns", pa.int64(), nullable=False),
        pa.field("t_wall_ns", pa.int64(), nullable=False),
        *(pa.field(f"image.{camera.name}", pa.binary()) for camera in header.spec.cameras),
        pa.field("state", pa.list_(f32, s), nullable=False),
        pa.field("action", pa.list_(f32, a), nullable=False),
        pa.field("policy_action", pa.list_(f32, a), nullable=False),
        pa.field("operator_action", pa.list_(f32, a), nullable=False),
        pa.field("control_mode", pa.uint8(), nullable=False),
        pa.field("controller", pa.uint8(), nullable=False),
        pa.field("policy_number", pa.int32(), nullable=False),
        pa.field("lease_epoch", pa.int32(), nullable=False),
        pa.field("doubt", f32, nullable=False),
        pa.field("reward", f32, nullable=False),
        pa.field("before_takeover", pa.bool_(), nullable=False),
        pa.field("command_age_ms", f32, nullable=False),
        pa.field("chunk_index", pa.int16(), nullable=False),
    ]
    if header.value_sha256:
        # Added later: an episode without a value function is what it always was.
        fields.append(pa.field("value", f32, nullable=False))
    metadata = {_METADATA_KEY: msgspec.json.encode({"header": header, "index": index})}
    return pa.schema(fields, metadata=metadata)


def _rows(values: list[np.ndarray | None], width: int) -> pa.Array:
    out = np.full((len(values), width), np.nan, np.float32)  # (t, width)
    for row, value in enumerate(values):
        if value is not None:
            out[row] = value
    return pa.FixedSizeListArray.from_arrays(pa.array(out.reshape(-1)), width)


def encode_part(header: EpisodeHeader, steps: list[Step], *, index: int = 0) -> bytes:
    """Return one part as the bytes of an Arrow IPC file. Raises BadEpisode if empty or too big."""
    if not 0 < len(steps) <= MAX_PART_STEPS:
        raise BadEpisode(f"a part holds 1 to {MAX_PART_STEPS} steps, not {len(steps)}")
    schema = part_schema(header, index=index)
    a, s = len(header.spec.action_names), len(header.spec.state_names)
    columns: dict[str, pa.Array] = {
        "state": _rows([x.state for x in steps], s),
        "action": _rows([x.action for x in steps], a),
        "policy_action": _rows([x.policy_action for x in steps], a),
        "operator_action": _rows([x.operator_action for x in steps], a),
        "controller": pa.array([CONTROLLERS.index(x.controller) for x in steps], pa.uint8()),
    }
    for camera in header.spec.cameras:
        jpegs = [x.images.get(camera.name) for x in steps]
        columns[f"image.{camera.name}"] = pa.array(jpegs, pa.binary())
    arrays = [
        columns[f.name]
        if f.name in columns
        else pa.array([getattr(x, f.name) for x in steps], f.type)
        for f in schema
    ]
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    data = sink.getvalue()
    if len(data) > MAX_PART_BYTES:
        raise BadEpisode(f"a part of {len(data)} bytes is over the limit of {MAX_PART_BYTES}")
    return data


@dataclass(frozen=True, slots=True)
class Part:
    """A decoded part: its header, its place in the episode, and one table row a step."""

    header: EpisodeHeader
    index: int
    table: pa.Table

    @property
    def first_step(self) -> int:
        """Index in the episode of the first row."""
        return int(self.table["step"][0].as_py())

    def array(self, name: str) -> np.ndarray:
        """Return a column as numpy: (t,) for scalars, (t, width) for vectors."""
        column = self.table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
        return np.asarray(column.to_numpy(zero_copy_only=False))

    def image(self, camera: str, row: int) -> bytes | None:
        """Return the JPEG of `camera` at `row`, or None on a tick without an image."""
        jpeg: bytes | None = self.table[f"image.{camera}"][row].as_py()
        return jpeg


class _PartMetadata(msgspec.Struct, frozen=True):
    header: EpisodeHeader
    index: Annotated[int, Meta(ge=0, lt=MAX_PARTS)]


def open_part(source: bytes | str | pa.NativeFile) -> Part:
    """Open a part from bytes or a file path (memory-mapped), checking its schema.

    Raises:
        BadEpisode: Not an Arrow file, a schema that differs from its own header's, no rows, or
            steps that are not consecutive.
    """
    try:
        handle = pa.memory_map(source) if isinstance(source, str) else source
        table = pa.ipc.open_file(handle).read_all()
        # Offsets and lengths come from a peer: reading past a buffer would end the process.
        table.validate(full=True)
        metadata = (table.schema.metadata or {}).get(_METADATA_KEY, b"")
        meta = msgspec.json.decode(metadata, type=_PartMetadata)
    except (pa.ArrowException, msgspec.DecodeError, OSError, ValueError) as error:
        raise BadEpisode(f"not an episode part: {error}") from None
    expected = part_schema(meta.header, index=meta.index)
    if not table.schema.remove_metadata().equals(expected.remove_metadata()):
        raise BadEpisode("columns differ from those its header declares")
    if not 0 < table.num_rows <= MAX_PART_STEPS:
        raise BadEpisode(f"a part holds 1 to {MAX_PART_STEPS} steps, not {table.num_rows}")
    part = Part(meta.header, meta.index, table)
    steps = part.array("step")
    if steps[0] < 0 or not (np.diff(steps) == 1).all():
        raise BadEpisode("steps are not consecutive")
    if not np.isfinite(part.array("action")).all() or not np.isfinite(part.array("state")).all():
        raise BadEpisode("actions and states must be finite")
    return part


def sha256_of(data: bytes) -> str:
    """Return the hex sha256 of `data`, which is its address in the object store."""
    return hashlib.sha256(data).hexdigest()


_manifest = msgspec.json.Decoder(EpisodeManifest)


def decode_manifest(data: bytes) -> EpisodeManifest:
    """Decode and check a manifest. Raises BadEpisode."""
    try:
        return _manifest.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise BadEpisode(str(error)) from None


def encode_manifest(manifest: EpisodeManifest) -> bytes:
    """Return a manifest as JSON."""
    return msgspec.json.encode(manifest)


def to_builtins(value: msgspec.Struct) -> Any:
    """Return a struct as plain dicts and lists, for a JSON column."""
    return msgspec.to_builtins(value)
