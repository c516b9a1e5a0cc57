"""Make the base policy that ships: `python -m learning.experiments.base`.

Ten demonstrations a task from a narrow slice of layouts, behaviour cloning until nothing more is
learned, and an evaluation over the full range of layouts that the card beside the weights reports.
The slice is narrow on purpose: what is left to learn is what corrections are for.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fleet.protocol.simulation import (
    BASE_LAYOUT,
    DEMONSTRATION_SEEDS_FROM,
    FINAL_SEEDS,
    HELD_OUT_PARAPHRASES,
    TASKS,
    robot_spec,
)
from learning.core.allocation import keep_freed_memory
from learning.core.policies.base import save_policy
from learning.experiments.demonstrations import demonstrate
from learning.experiments.rollouts import Wording, evaluate, summarise
from learning.experiments.training import (
    Recipe,
    Samples,
    policy_config,
    read_demonstrations,
    train,
)

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WEIGHTS = "base_policy.safetensors"
CARD = "BASE_POLICY.md"
WORDINGS: tuple[tuple[Wording, str], ...] = (
    ("own", "the task's instruction"),
    ("held_out", "a paraphrase never trained on"),
    ("wrong", "another task's instruction"),
)


def _cell(row: Mapping[str, float]) -> str:
    return f"{row['success']:.2f} ({row['low']:.2f}–{row['high']:.2f})"


def card(
    *,
    recipe: Recipe,
    per_task: int,
    samples: int,
    artifact: bytes,
    losses: Sequence[tuple[int, float]],
    results: Mapping[Wording, Mapping[str, Mapping[str, float]]],
) -> str:
    """Return the policy's card as Markdown."""
    n = int(results["own"][TASKS[0].name]["n"])
    low, high = BASE_LAYOUT[TASKS[0].name]
    lines = [
        "# The base policy",
        "",
        "An image policy (two cameras, proprioception, an instruction) that every simulated robot "
        "starts from.",
        "It is deliberately unfinished: its demonstrations cover a narrow part of the layouts it "
        "meets.",
        "",
        "- Made by `python -m learning.experiments.base`; the same command makes it again.",
        f"- File: `{WEIGHTS}`, {len(artifact):,} bytes, "
        f"sha256 `{hashlib.sha256(artifact).hexdigest()}`.",
        f"- Data: {per_task} demonstrations a task by MetaWorld's scripted experts (MIT licence), "
        f"only successes, layouts from the {low:.0%}–{high:.0%} slice of each dimension, seeds "
        f"from {DEMONSTRATION_SEEDS_FROM} on; {samples:,} samples.",
        f"- Training: {recipe.steps:,} steps, {recipe.per_task} samples a task and step, AdamW, "
        f"learning rate {recipe.learning_rate:g} falling to zero along a cosine, mean of the "
        f"weights with decay {recipe.average:g}, seed {recipe.seed}.",
        f"- Evaluation: {n} episodes a task on held-out layouts over the full range "
        f"(seeds {FINAL_SEEDS[0]}–{FINAL_SEEDS[n - 1]}), used for nothing else; no takeover; "
        "success is the task's own signal within 200 ticks.",
        "- Not inputs: object positions, the goal's position, the task's name. Goal markers are "
        "not drawn.",
        "",
        "## Success, with 95 % Wilson intervals",
        "",
        "| task | " + " | ".join(title for _, title in WORDINGS) + " |",
        "|---|" + "---|" * len(WORDINGS),
    ]
    for name in [*(task.name for task in TASKS), "all"]:
        cells = " | ".join(_cell(results[wording][name]) for wording, _ in WORDINGS)
        lines.append(f"| {name} | {cells} |")
    lines += [
        "",
        f"n = {n} a task, {n * len(TASKS)} in the last row.",
        "Each scene shows only its own task, so what wrong words change is how far the policy "
        "relies on words at all.",
        "",
        "## Training loss",
        "",
        "| step | mean loss of the 500 steps before |",
        "|---:|---:|",
        *(f"| {step} | {loss:.4f} |" for step, loss in losses),
        "",
        "## Words",
        "",
        "| task | trained on | held out |",
        "|---|---|---|",
    ]
    for task in TASKS:
        trained = "; ".join((task.instruction, *task.paraphrases))
        lines.append(f"| {task.name} | {trained} | {'; '.join(HELD_OUT_PARAPHRASES[task.name])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demonstrations", type=Path, default=Path("var/base/demonstrations"))
    parser.add_argument("--out", type=Path, default=ASSETS)
    parser.add_argument("--per-task", type=int, default=10)
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--episodes", type=int, default=20, help="of evaluation, a task")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    demonstrate(
        arguments.demonstrations, per_task=arguments.per_task, processes=arguments.processes
    )
    samples = Samples(policy_config(robot_spec()))
    for part in read_demonstrations(arguments.demonstrations):
        samples.add_part(part)
    recipe = Recipe(steps=arguments.steps, seed=arguments.seed)
    losses: list[tuple[int, float]] = []
    policy = train(samples, recipe, watch=lambda step, loss, _: losses.append((step, loss)))
    artifact = save_policy(policy)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / WEIGHTS).write_bytes(artifact)
    results = {
        wording: summarise(
            evaluate(
                artifact,
                seeds=FINAL_SEEDS[: arguments.episodes],
                processes=arguments.processes,
                wording=wording,
                progress=True,
            )
        )
        for wording, _ in WORDINGS
    }
    text = card(
        recipe=recipe,
        per_task=arguments.per_task,
        samples=len(samples),
        artifact=artifact,
        losses=losses,
        results=results,
    )
    (arguments.out / CARD).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
