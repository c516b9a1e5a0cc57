"""The measurements of the running system, each with its figure, its target and how it was taken."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field

import httpx
import numpy as np

from fleet.agent.priority import come_first
from learning.experiments.analysis import quantile
from learning.experiments.system import System
from tests.bench import (
    chromium,
    deadman,
    fleet,
    grants,
    helping,
    kills,
    labelling,
    rollbacks,
    video,
)
from tests.bench.manage import shell
from tests.bench.report import Measure
from tests.bench.steal import StealWatch

ROBOTS = 4
OPERATORS = 2
# Operators that no process uses: the benchmark's own clients.
SPARE = OPERATORS
LEARNER = "hg-dagger"
FRESHNESS = """
import json
from dataclasses import asdict
from datetime import timedelta
from django.utils import timezone
from learning.selectors.dashboards import Frame
from learning.selectors.freshness import correction_to_fleet
now = timezone.now()
print(json.dumps(asdict(correction_to_fleet(Frame(since=now - timedelta(hours=1), until=now)))))
"""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    watch_s: float = 120.0
    presses: int = 120
    cuts: int = 120
    kills: int = 100
    grants: int = 100
    labels: int = 60
    asks: int = 120
    rollbacks: int = 40
    pictures: video.Lengths = field(default_factory=video.Lengths)


# To see that everything can be measured, not to measure it.
QUICK = Extent(
    watch_s=30.0,
    presses=10,
    cuts=12,
    kills=8,
    grants=8,
    labels=8,
    asks=12,
    rollbacks=6,
    pictures=video.Lengths(10.0, 5.0, 60.0, 30.0),
)


def say(text: str) -> None:
    """Tell what happens, on the error stream."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def at_work(system: System, extent: Extent) -> list[Measure]:
    """Measure the fleet while it works: four robots rendering and watched, a learner learning."""
    say(f"watching the fleet for {extent.watch_s:.0f} s")
    since = fleet.now_stamp()
    with StealWatch() as steal:
        window = asyncio.run(
            fleet.watch(system.url, system.operator_token(), seconds_=extent.watch_s)
        )
    ledger = system.ledger
    late, at_ns = fleet.lateness_ms(ledger, system.var / "store", since)
    lateness = late.tolist()
    calm = late[steal.calm(at_ns)].tolist()
    gradient = fleet.episode_to_gradient_s(ledger, since)
    transfer = fleet.publish_transfer_s(ledger, ROBOTS, since)
    missed = window.missed_ticks / max(1, window.ticks + window.missed_ticks)
    rates = [
        json.loads(values).get("steps_per_s") or 0.0
        for (values,) in ledger.rows(
            'SELECT "values" FROM learning_learnermetric WHERE at >= ?', since
        )
    ]
    return [
        Measure(
            "loop_jitter_p99_ms",
            quantile(lateness, 0.99),
            "ms",
            "<= 10",
            lateness,
            f"lateness of control ticks of {ROBOTS} robots rendering, thumbnails and telemetry "
            f"watched; p99 of each robot's seconds: median "
            f"{quantile(window.jitter_p99_ms, 0.5):.1f}, worst "
            f"{quantile(window.jitter_p99_ms, 1):.1f} ms; {missed:.2%} of ticks missed; busy "
            f"{quantile(window.busy_p50_ms, 0.5):.1f} ms of 50; "
            f"{len(window.frame_ages_ms)} frames, age p95 "
            f"{quantile(window.frame_ages_ms, 0.95):.0f} ms; "
            f"learner {quantile(rates, 0.5):.1f} updates/s beside it; {steal}; while it took none "
            f"p99 was {quantile(calm, 0.99):.1f} ms (n={len(calm)})",
        ),
        Measure(
            "episode_to_gradient_p50_s",
            quantile(gradient, 0.5),
            "s",
            "<= 2",
            gradient,
            "end of a corrected episode to the first gradient step that used it",
        ),
        Measure(
            "publish_transfer_p95_s",
            quantile(transfer, 0.95),
            "s",
            "<= 1",
            transfer,
            f"version's row to its bytes verified on all {ROBOTS} robots; "
            f"{fleet.published(ledger, since)} published",
        ),
        _correction_to_fleet(system),
    ]


def _correction_to_fleet(system: System) -> Measure:
    found = json.loads(shell(system.var, FRESHNESS))
    return Measure(
        "correction_to_fleet_p50_s",
        found["p50_s"],
        "s",
        note="a correction's first command to a robot that runs a version trained on it, as the "
        f"dashboards say it: {found['corrections']} corrections by scripted operators, "
        f"{found['arrived']} arrivals at a robot, p95 {found['p95_s'] or float('nan'):.1f} s",
    )


def cuts(system: System, extent: Extent) -> list[Measure]:
    """Measure the dead-man's time."""
    say(f"cutting {extent.cuts} connections")
    with StealWatch() as steal:
        stops, lost = asyncio.run(
            deadman.measure(
                system.url,
                token=system.operator_token(SPARE),
                ledger=system.ledger,
                store=system.var / "store",
                robots=list(system.robots),
                cuts=extent.cuts,
                budget_s=480,
            )
        )
    calm = [ms for at_ns, ms in stops if steal.calm(np.array([at_ns]))[0]]
    stops_ms = [ms for _, ms in stops]
    return [
        Measure(
            "deadman_max_ms",
            max(stops_ms, default=float("nan")),
            "ms",
            "<= 250",
            stops_ms,
            "last command to the end of the first control tick with zero motion, as the robot "
            f"recorded it; half of the connections aborted, half gone silent; {lost} cuts without "
            f"a measurement; {steal}; while it took none the longest was "
            f"{max(calm, default=float('nan')):.0f} ms (n={len(calm)})",
        )
    ]


def keys(system: System, extent: Extent) -> list[Measure]:
    """Measure driving from a real browser."""
    say(f"pressing {extent.presses} keys in Chromium")
    name, password = system.login("operator")
    # An operator's computer is not the robots': theirs must not keep the browser waiting.
    come_first()
    with StealWatch() as steal:
        presses, lost = chromium.measure(
            system.url,
            name=name,
            password=password,
            robot=next(iter(system.robots)),
            presses=extent.presses,
            budget_s=180,
        )
    latencies = [press.total_ms for press in presses]
    reasons = ", ".join(f"{reason} ({n})" for reason, n in lost.most_common()) or "none"
    return [
        Measure(
            "command_p95_ms",
            quantile(latencies, 0.95),
            "ms",
            "<= 50",
            latencies,
            "key down in Chromium on the robot page to the command accepted by the robot's "
            "arbiter, browser and one robot on the same cores; until the page sent it p95 "
            f"{quantile([press.sent_ms for press in presses], 0.95):.0f} ms, from there "
            f"{quantile([press.total_ms - press.sent_ms for press in presses], 0.95):.0f} ms; "
            f"presses without a measurement: {reasons}; {steal}",
        )
    ]


def granted(system: System, extent: Extent) -> list[Measure]:
    """Measure how long an operator waits for a robot."""
    say(f"taking robots over {extent.grants} times")
    with StealWatch() as steal:
        found = asyncio.run(
            grants.measure(
                system.url,
                token=system.operator_token(SPARE),
                robots=list(system.robots),
                grants=extent.grants,
                budget_s=240,
            )
        )
    return [
        Measure(
            "grant_p95_ms",
            quantile(found.granted_ms, 0.95),
            "ms",
            "<= 200",
            found.granted_ms,
            "takeover asked to the lease, on an operator's socket; until the operator sees that "
            f"the robot obeys a person p95 {quantile(found.human_ms, 0.95):.0f} ms; "
            f"{found.refused} refused; {steal}",
        )
    ]


def labels(system: System, extent: Extent) -> list[Measure]:
    """Measure how soon the next episode is seen after a label."""
    say(f"judging {extent.labels} episodes in Chromium")
    name, password = system.login("labeller")
    come_first()
    with StealWatch() as steal:
        found = labelling.measure(
            system.url, name=name, password=password, labels=extent.labels, budget_s=180
        )
    return [
        Measure(
            "label_next_frame_p95_ms",
            quantile(found, 0.95),
            "ms",
            "<= 150",
            found,
            "key down in Chromium on the labelling desk to the first picture of the next episode "
            f"drawn, browser and one robot on the same cores; {steal}",
        )
    ]


def rolled_back(system: System, extent: Extent) -> list[Measure]:
    """Measure how soon every robot is told after a lead rolled the fleet back."""
    say(f"rolling the fleet back {extent.rollbacks} times")
    token = system.operator_token(SPARE)
    answer = httpx.get(
        f"{system.url}/api/policies",
        params={"learner": LEARNER},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    numbers = [version["number"] for version in answer.raise_for_status().json()]
    target = "<= 5"
    if len(numbers) < 2:
        note = "there is only one version: nothing to roll back to"
        return [Measure("rollback_announce_p95_s", None, "s", target, note=note)]
    with StealWatch() as steal:
        found = asyncio.run(
            rollbacks.measure(
                system.url,
                token=token,
                login=system.login("lead"),
                learner=LEARNER,
                numbers=[numbers[-1], numbers[0]],
                robots=list(system.robots),
                rollbacks=extent.rollbacks,
            )
        )
    return [
        Measure(
            "rollback_announce_p95_s",
            quantile(found.announced_s, 0.95),
            "s",
            target,
            found.announced_s,
            f"a lead's click to the last of {len(system.robots)} robots told, as an operator's "
            f"socket says; the page answered after p95 {quantile(found.answered_s, 0.95):.2f} s; "
            f"{found.lost} not seen by everybody; {steal}",
        )
    ]


def helped(system: System, extent: Extent) -> list[Measure]:
    """Measure how soon an operator sees that a robot asks for help."""
    say(f"asking for help {extent.asks} times")
    with StealWatch() as steal:
        seen, lost = asyncio.run(
            helping.measure(
                system.url,
                token=system.operator_token(SPARE),
                robots=list(system.robots),
                asks=extent.asks,
                budget_s=120,
            )
        )
    latencies = [one.seen_ms for one in seen]
    return [
        Measure(
            "help_p95_ms",
            quantile(latencies, 0.95),
            "ms",
            "<= 300",
            latencies,
            "need raised on the robot to its request on another operator's socket; with the way "
            "of a person's wish to the robot before it p95 "
            f"{quantile([one.asked_ms for one in seen], 0.95):.0f} ms; {lost} asks without a "
            f"measurement; {steal}",
        )
    ]


def ready(system: System) -> list[Measure]:
    """Report how long the second start took."""
    return [
        Measure(
            "run_ready_s",
            system.ready_s,
            "s",
            "<= 20",
            [system.ready_s],
            "second start of the system: processes started to every robot live",
        )
    ]


def killed(system: System, extent: Extent) -> list[Measure]:
    """Kill agents in the middle of episodes and look for halves of episodes in the index."""
    say(f"killing {extent.kills} agents in the middle of episodes")
    uids, drained = asyncio.run(
        kills.measure(
            system.url,
            token=system.operator_token(SPARE),
            var=system.var,
            robots=list(system.robots),
            kills=extent.kills,
            budget_s=600,
        )
    )
    ledger = system.ledger
    found = {
        uid.replace("-", ""): (state, complete)
        for uid, state, complete in ledger.rows("SELECT uid, state, complete FROM learning_episode")
    }
    kept = [found.get(uid.replace("-", "")) for uid in uids]
    closed = sum(1 for row in kept if row is not None and row[0] == "closed")
    return [
        Measure(
            "partial_episodes",
            ledger.partial_episodes() + sum(1 for row in kept if row == ("closed", 1)),
            "",
            "<= 0",
            (),
            f"{len(uids)} agents killed with SIGKILL in an episode; of those episodes {closed} "
            f"were kept as incomplete and {sum(row is None for row in kept)} left no trace; "
            f"spools {'drained' if drained else 'did NOT drain'}",
        )
    ]


def mixed(system: System) -> list[Measure]:
    """Count autonomous episodes with two policy numbers, over all that ran."""
    ledger = system.ledger
    episodes = ledger.one("SELECT COUNT(*) FROM learning_episode WHERE purpose != 'demonstration'")
    return [
        Measure(
            "mixed_version_episodes",
            ledger.mixed_version_episodes(),
            "",
            "<= 0",
            (),
            f"of {episodes} episodes of this run",
        )
    ]
