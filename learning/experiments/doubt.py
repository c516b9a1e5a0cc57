"""Is doubt higher where a policy is about to go wrong? `python -m learning.experiments.doubt`.

Gives a policy an ensemble, trains it on demonstrations, and rolls it out in this process, once with
a privileged operator who takes over (`fleet.agent.teleop.gate`) and once alone. Two questions, each
answered by the area under the ROC curve with an interval over resampled episodes: is doubt higher
in the 15 ticks before a takeover than in the rest of the time the policy acts, and is the mean
doubt of an episode higher where it fails than where it succeeds. 0.5 is no better than chance.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fleet.agent.controllers import ChunkController
from fleet.agent.drivers.experts import expert_action
from fleet.agent.drivers.metaworld import MetaWorldDriver
from fleet.agent.teleop.gate import Gate
from fleet.protocol.episode import BEFORE_TAKEOVER_STEPS
from fleet.protocol.simulation import TASKS, task_named
from learning.core.allocation import keep_freed_memory
from learning.core.policies.base import Policy, load_policy, save_policy
from learning.core.policies.doubt_heads import with_doubt
from learning.experiments.base import ASSETS, WEIGHTS
from learning.experiments.control import train_control

# Training layouts that neither demonstrations nor running fleets get to.
SEEDS_FROM = 2**28


@dataclass(frozen=True, slots=True)
class Watched:
    """One episode, with an entry for each inference while the policy acted."""

    task: str
    seed: int
    success: bool
    takeovers: int
    doubt: tuple[float, ...]
    # Whether a takeover followed within 15 ticks.
    before_takeover: tuple[bool, ...]


def watch(
    policy: Policy, driver: MetaWorldDriver, task_name: str, seed: int, *, takeovers: bool
) -> Watched:
    """Run one episode over the full range of layouts and log the doubt of each inference."""
    task = task_named(task_name)
    driver.reset(task, seed=seed)
    controller, gate = ChunkController(policy), Gate()
    gate.begin("watched")
    low, high = np.array(driver.spec.action_low), np.array(driver.spec.action_high)
    inferred: list[tuple[int, float]] = []
    taken: list[int] = []
    driving = success = False
    for tick in range(task.timeout_ticks):
        infers = controller.wants_image
        reading = driver.read(images=infers)
        if reading.success:
            success = True
            break
        proposal, doubt, index = controller.propose(reading, task.instruction)
        if index == 0 and not driving:
            inferred.append((tick, doubt))
        expert = expert_action(task_name, reading.privileged)
        gate.observe(tick=tick, expert=expert, policy=proposal.tolist(), reward=reading.reward)
        if takeovers and gate.needs_help:
            driving = True
            gate.took_over()
            taken.append(tick)
        elif driving and gate.may_hand_back:
            driving = False
            gate.handed_back()
            controller.reset()
        driver.apply(expert if driving else np.clip(proposal, low, high).astype(np.float32))
    ticks = np.array([tick for tick, _ in inferred])
    before = np.zeros(len(ticks), bool)
    for at in taken:
        before |= (at - BEFORE_TAKEOVER_STEPS <= ticks) & (ticks <= at)
    return Watched(
        task_name,
        seed,
        success,
        len(taken),
        tuple(doubt for _, doubt in inferred),
        tuple(before.tolist()),
    )


def area(higher: np.ndarray, lower: np.ndarray) -> float:
    """Return the share of pairs in which `higher` is the larger, ties half: the area under ROC.

    Raises:
        ValueError: A side is empty.
    """
    if not len(higher) or not len(lower):
        raise ValueError("an area needs both kinds")
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / 2 / len(lower))


Split = Callable[[Sequence[Watched]], tuple[np.ndarray, np.ndarray]]


def by_takeover(episodes: Sequence[Watched]) -> tuple[np.ndarray, np.ndarray]:
    """Return the doubts before takeovers, and the others."""
    doubt = np.concatenate([episode.doubt for episode in episodes])
    before = np.concatenate([episode.before_takeover for episode in episodes]).astype(bool)
    return doubt[before], doubt[~before]


def by_outcome(episodes: Sequence[Watched]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean doubts of failures, and of successes."""
    means = np.array([np.mean(episode.doubt) for episode in episodes])
    failed = np.array([not episode.success for episode in episodes])
    return means[failed], means[~failed]


def report(episodes: Sequence[Watched], split: Split, *, resamples: int = 500) -> dict[str, float]:
    """Return the area of a split with its n and a 95 % interval over resampled episodes.

    Raises:
        ValueError: All episodes are of one kind.
    """
    higher, lower = split(episodes)
    found = area(higher, lower)
    generator = np.random.default_rng(0)
    areas = []
    while len(areas) < resamples:
        drawn = [episodes[i] for i in generator.integers(len(episodes), size=len(episodes))]
        sides = split(drawn)
        if all(len(side) for side in sides):
            areas.append(area(*sides))
    low, high = np.quantile(areas, (0.025, 0.975))
    return {
        "auc": found,
        "low": float(low),
        "high": float(high),
        "n": len(higher),
        "n_other": len(lower),
        "episodes": len(episodes),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=Path, default=ASSETS / WEIGHTS)
    parser.add_argument("--demonstrations", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--episodes", type=int, default=10, help="a task, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    grown = with_doubt(
        load_policy(arguments.base.read_bytes()), arguments.heads, seed=arguments.seed
    )
    artifact = train_control(
        save_policy(grown),
        arguments.demonstrations,
        updates=arguments.updates,
        seed=arguments.seed,
        progress=True,
    )
    policy, driver = load_policy(artifact), MetaWorldDriver("image")
    seeds = range(SEEDS_FROM, SEEDS_FROM + arguments.episodes)
    started = time.monotonic()
    with_operator, alone = (
        [watch(policy, driver, task.name, seed, takeovers=kind) for seed in seeds for task in TASKS]
        for kind in (True, False)
    )
    driver.close()
    result = {
        "before_takeovers": report(with_operator, by_takeover),
        "failures": report(alone, by_outcome),
        "takeovers": sum(episode.takeovers for episode in with_operator),
        "success_alone": float(np.mean([episode.success for episode in alone])),
        "heads": policy.config.doubt_heads,
        "artifact_bytes": len(artifact),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
