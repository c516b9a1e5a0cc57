"""One full example of every message, the episode part and the manifest, and how to write them.

`python -m tests.protocol.examples` adds golden files for what has none yet. A golden file is never
written anew: what an agent in the field once sent must decode for ever.
"""

from __future__ import annotations

import typing
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from fleet.protocol import browser as b
from fleet.protocol import episode
from fleet.protocol import messages as m
from fleet.protocol.codec import FrameHeader, encode_link, encode_text, pack_frame
from fleet.protocol.control import Controller, Lease, Mode
from fleet.protocol.help import HelpLimits
from fleet.protocol.spec import (
    Camera,
    CameraView,
    HandMotion,
    PolicyRef,
    RobotSpec,
    TaskSpec,
    Trial,
    TrialOrder,
    ValueRef,
)

GOLDEN = Path(__file__).parent / "golden" / "v1"
SHA = "ab" * 32
UID = "8d0f2f0e-6f0d-4c39-9a5c-0123456789ab"
SPEC = RobotSpec(
    embodiment="arm",
    control_hz=20.0,
    action_names=("x", "gripper"),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_slew=(0.25, 0.5),
    state_names=("x", "y", "z"),
    cameras=(Camera(name="front", width_px=32, height_px=24, title="Front"),),
    image_every=2,
    simulated=True,
)
# Says all that a specification may say today.
SEEING_SPEC = msgspec.structs.replace(
    SPEC,
    cameras=(
        Camera(
            name="front",
            width_px=32,
            height_px=24,
            heading_rad=1.5,
            view=CameraView(
                position_m=(0.75, 0.5, 0.25),
                right=(0.0, 1.0, 0.0),
                down=(0.0, 0.0, -1.0),
                forward=(-1.0, 0.0, 0.0),
                focal_heights=0.875,
            ),
        ),
    ),
    hand=HandMotion(position=("x", "y", "z"), action=("x", "x", "gripper"), unit_m=0.5),
)
TASK = TaskSpec(
    name="drawer-open",
    instruction="open the drawer",
    paraphrases=("pull the drawer open",),
    timeout_ticks=200,
    weight=2.0,
    layout_low=0.1,
    layout_high=0.4,
)
REF = PolicyRef(number=12, sha256=SHA, url="/api/policies/x/weights", size_bytes=99, parent=11)
VALUE_REF = ValueRef(
    number=3, sha256=SHA, url="/api/values/x/weights", size_bytes=77, correlation=0.75
)
LEASE = Lease(epoch=4, holder="ada", holder_kind="human", expires_wall_ns=1_700_000_005_000_000_000)
WALL, MONO = 1_700_000_000_000_000_000, 123_456_789

NEED = m.HelpNeed(
    number=1_700_000_000_000_000,
    reasons=("doubt", "limit"),
    constraint=True,
    uncertainty=0.3,
    risk=0.5,
    detail="doubt 0.41 > τ 0.28",
    since_wall_ns=WALL,
    ended="helped",
)
HEARTBEAT = m.Heartbeat(
    seq=9,
    t_mono_ns=MONO,
    t_wall_ns=WALL,
    mode=Mode.TAKEOVER,
    epoch=4,
    policy=REF,
    policy_since_wall_ns=WALL - 5,
    task="drawer-open",
    instruction="open the drawer",
    purpose="train",
    evaluation=UID,
    episode=UID,
    tick=57,
    left_s=7.5,
    reason="ada drives",
    recent="sfta",
    loop=m.LoopStats(
        ticks=20, missed_ticks=1, jitter_p50_ms=0.25, jitter_p99_ms=1.5, busy_p50_ms=12.0
    ),
    spool_episodes=2,
    spool_bytes=4096,
    rtt_ms=1.25,
    clock_offset_ns=-300,
    upload_error="connection refused",
    help=NEED,
    value=m.ValueStatus(
        told=SHA, number=2, correlation=0.5, reason="value function 3 is on its way", took_ms=1.5
    ),
)
TELEMETRY = m.Telemetry(
    seq=3,
    t_wall_ns=WALL,
    mode=Mode.AUTONOMOUS,
    epoch=4,
    tick=57,
    state=(0.5, 0.25, 0.125),
    action=(0.5, -1.0),
    policy_action=(0.25, 1.0),
    doubt=0.5,
    episode=UID,
    task="drawer-open",
    purpose="eval",
    privileged=(1.0, 2.0),
    reward=0.75,
    plan=((0.25, 1.0), (0.125, -1.0)),
    value=-0.25,
)
ACKNOWLEDGED = m.Acknowledged(
    seq=7,
    epoch=4,
    command="Teleop",
    accepted=False,
    reason="epoch 3 is over",
    mode=Mode.HOLDING,
    stop_id="stop-1",
    t_client_ms=1.5,
    t_wall_ns=WALL,
)

HELP = b.HelpState(
    robot="robot-1",
    revision=18,
    number=NEED.number,
    status="claimed",
    reasons=("doubt", "limit"),
    constraint=True,
    uncertainty=0.3,
    risk=0.5,
    detail="doubt 0.41 > τ 0.28",
    raised_wall_ns=WALL,
    claimed_wall_ns=WALL + 1000,
    claimed_by="ada",
    claimed_by_kind="human",
    note="bo left",
)

MESSAGES: tuple[m.Message, ...] = (
    m.Hello(
        protocol=1,
        robot="robot-1",
        spec=SPEC,
        agent_version="1",
        t_wall_ns=WALL,
        policy=REF,
        epoch=4,
        mode=Mode.HOLDING,
        spool_episodes=2,
    ),
    HEARTBEAT,
    NEED,
    TELEMETRY,
    m.Frame(camera="front", size="thumbnail", seq=5, t_wall_ns=WALL, jpeg=b"\xff\xd8jpeg\xff\xd9"),
    ACKNOWLEDGED,
    m.PolicyReport(number=12, sha256=SHA, status="rejected", t_wall_ns=WALL, reason="not finite"),
    m.Ping(t_sender_ns=MONO),
    m.Pong(t_sender_ns=MONO, t_wall_ns=WALL),
    m.Welcome(protocol=1, t_wall_ns=WALL, epoch=4),
    m.Assignment(
        tasks=(TASK,),
        evaluate_every=6,
        eval_seeds=(1073741824, 1073741825),
        train_seed=1000,
        reset_s=1.0,
        paused=True,
        order=TrialOrder(
            evaluation=UID,
            policy=REF,
            trials=(Trial(uid="trial-1", task=TASK, seed=1073743824),),
        ),
        help=HelpLimits(
            doubt=0.28,
            still_s=2.5,
            still_range=0.02,
            failures=5,
            value_drop=0.25,
            value_correlation=0.5,
        ),
        value=VALUE_REF,
    ),
    m.PolicyAnnouncement(policy=REF, weights=b"weights"),
    m.FeedRequest(frames=(("front", "full"),), fps=5.0, telemetry=True, privileged=True),
    m.LeaseGranted(lease=LEASE),
    m.LeaseEnded(epoch=4, how="hand_back"),
    m.Teleop(epoch=4, seq=8, action=(0.5, -1.0), t_wall_ns=WALL, t_client_ms=1.5),
    m.Probe(epoch=4, t_client_ms=1.5),
    m.Hold(seq=1, reason="a person is near"),
    m.Resume(seq=2, epoch=4),
    m.AskForHelp(seq=3, by="ada", reason="the cable is caught", wanted=False),
    m.MarkOutcome(seq=3, outcome="failure", judge="operator:ada", episode=UID),
    m.Stop(stop_id="stop-1", by="ada"),
    m.Release(seq=4, by="bo"),
    m.Refused(code="malformed", reason="Object missing required field"),
    b.Watch(robots=("robot-1",), every=True, telemetry=True, privileged=True),
    b.TakeOver(robot="robot-1", t_client_ms=1.5),
    b.KeepLease(robot="robot-1", epoch=4, t_client_ms=1.5),
    b.HandBack(robot="robot-1", epoch=4),
    b.Drive(
        robot="robot-1", epoch=4, seq=8, action=(0.5, -1.0), t_client_ms=1.5, frame_age_ms=80.0
    ),
    b.AskControl(robot="robot-1", asking=False),
    b.PassControl(robot="robot-1", epoch=4, to="bo"),
    b.HoldRobot(robot="robot-1"),
    b.ResumeRobot(robot="robot-1"),
    b.Judge(robot="robot-1", outcome="success", episode=UID),
    b.StopRobots(robots=("robot-1",), every=True),
    b.ReleaseRobot(robot="robot-1"),
    b.AskHelp(robot="robot-1", reason="the cable is caught", wanted=False),
    b.ClaimHelp(robot="robot-1", operator="bo"),
    b.SkipHelp(robot="robot-1", number=NEED.number, reason="the part is missing"),
    b.EscalateHelp(robot="robot-1", number=NEED.number, reason="a person must reset it"),
    b.WatchFrames(feeds=(("robot-1", "front", "thumbnail"),)),
    b.FrameShown(robot="robot-1", camera="front", size="thumbnail", seq=5),
    b.RobotState(
        robot="robot-1",
        revision=17,
        connection="stale",
        simulated=True,
        heartbeat=HEARTBEAT,
        lease=LEASE,
        assigned_number=13,
        pinned=True,
        stop_pending=True,
        t_wall_ns=WALL,
    ),
    b.Snapshot(
        robots=(),
        operator="ada",
        operator_kind="human",
        operator_role="lead",
        help=(HELP,),
    ),
    HELP,
    b.RobotTelemetry(robot="robot-1", telemetry=TELEMETRY),
    b.TakeoverAnswer(robot="robot-1", lease=LEASE, reason="", t_client_ms=1.5),
    b.CommandAnswer(robot="robot-1", answer=ACKNOWLEDGED),
    b.ControlAsked(robot="robot-1", operators=("bo", "cy")),
    b.CorrectionState(
        robot="robot-1",
        episode="6f1f2e0c-0000-4000-8000-000000000001",
        epoch=7,
        revision=3,
        mark="recovery",
        discarded=True,
        trim_start=4,
        trim_end=2,
        by="ada",
    ),
    b.FleetState(paused=True, scripted_paused=True, help_sla_s=45.0),
)

ALL_KINDS: frozenset[type] = frozenset(
    kind
    for union in (m.FromRobot, m.ToRobot, b.FromBrowser, b.FromViewer, b.ToBrowser)
    for kind in typing.get_args(union)
)
BINARY_KINDS = frozenset(typing.get_args(m.FromRobot)) | frozenset(typing.get_args(m.ToRobot))
TEXT_KINDS = ALL_KINDS - BINARY_KINDS | {m.Ping, m.Pong, m.Refused}

HEADER = episode.EpisodeHeader(
    episode=UID,
    robot="robot-1",
    task=TASK,
    instruction="pull the drawer open",
    seed=1000,
    purpose="train",
    spec=SPEC,
    started_wall_ns=WALL,
    policy_number=12,
    policy_sha256=SHA,
    agent_version="1",
)
STEPS = [
    episode.Step(
        step=0,
        t_mono_ns=MONO,
        t_wall_ns=WALL,
        state=np.array([0.5, 0.25, 0.125], np.float32),
        action=np.array([0.5, -1.0], np.float32),
        policy_action=np.array([0.5, -1.0], np.float32),
        policy_number=12,
        doubt=0.5,
        reward=0.75,
        before_takeover=True,
        chunk_index=3,
        images={"front": b"\xff\xd8jpeg\xff\xd9"},
    ),
    episode.Step(
        step=1,
        t_mono_ns=MONO + 50_000_000,
        t_wall_ns=WALL + 50_000_000,
        state=np.array([0.25, 0.5, 0.75], np.float32),
        action=np.array([1.0, 0.0], np.float32),
        operator_action=np.array([2.0, 0.0], np.float32),
        control_mode=1,
        controller=Controller.OPERATOR,
        lease_epoch=4,
        command_age_ms=12.5,
    ),
]
MANIFEST = episode.EpisodeManifest(
    header=HEADER,
    ended_wall_ns=WALL + 100_000_000,
    steps=2,
    outcome="success",
    judge="operator:ada",
    parts=(episode.PartRef(index=0, sha256=SHA, size_bytes=2048, first_step=0, steps=2),),
    interventions=(
        episode.InterventionSpan(
            start=1, end=2, epoch=4, operator="ada", operator_kind="human", doubt=0.5
        ),
    ),
    link=episode.LinkQuality(
        command_age_p50_ms=12.5,
        command_age_p95_ms=20.0,
        rtt_p50_ms=1.25,
        dead_man_ticks=1,
        discarded_commands=2,
    ),
    complete=True,
    control_period_s=0.05,
)
# An episode of a robot that computes values has a column more.
VALUED_HEADER = msgspec.structs.replace(HEADER, value_number=3, value_sha256=SHA)
VALUED_STEPS = [replace(STEPS[0], value=-0.25), STEPS[1]]
VALUED_MANIFEST = msgspec.structs.replace(
    MANIFEST,
    header=VALUED_HEADER,
    interventions=(msgspec.structs.replace(MANIFEST.interventions[0], value=-0.5),),
)
# What says more than its first golden file does.
VALUED_KINDS = (m.Heartbeat, m.Telemetry, m.Assignment, b.RobotTelemetry)
VIEWER_HEADER = FrameHeader(
    robot="robot-1", camera="front", size="full", seq=5, t_wall_ns=WALL, age_ms=12.5
)


def golden_files() -> dict[str, bytes]:
    """Return what each golden file would hold if it were made today."""
    files = {}
    for message in MESSAGES:
        name = type(message).__name__
        if type(message) in BINARY_KINDS:
            files[f"{name}.msgpack"] = encode_link(message)
        if type(message) in TEXT_KINDS:
            files[f"{name}.json"] = encode_text(message).encode()
        if type(message) in VALUED_KINDS:
            kind = "msgpack" if type(message) in BINARY_KINDS else "json"
            files[f"valued/{name}.{kind}"] = files[f"{name}.{kind}"]
    files["part.arrow"] = episode.encode_part(HEADER, STEPS)
    files["manifest.json"] = episode.encode_manifest(MANIFEST)
    files["valued_part.arrow"] = episode.encode_part(VALUED_HEADER, VALUED_STEPS)
    files["valued_manifest.json"] = episode.encode_manifest(VALUED_MANIFEST)
    files["viewer.frame"] = pack_frame(VIEWER_HEADER, b"\xff\xd8jpeg\xff\xd9")
    files["spec.json"] = msgspec.json.encode(SPEC)
    files["seeing_spec.json"] = msgspec.json.encode(SEEING_SPEC)
    return files


if __name__ == "__main__":
    for name, data in golden_files().items():
        (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
        if not (GOLDEN / name).exists():
            (GOLDEN / name).write_bytes(data)
            print("written", name)
