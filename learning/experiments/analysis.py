"""Numbers of an experiment: success with its interval, curves over time, the line it ends with.

Pure functions over plain values; nothing here measures, draws or waits.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from learning.core.statistics import Score, pooled


@dataclass(frozen=True, slots=True)
class Sample:
    """The running system at one moment; the fields are the columns of the curve."""

    # Minutes since the online phase began.
    minute: float
    # Gradient steps, and the newest published version.
    step: int
    version: int
    # Training episodes closed in the online phase, and how many of them were interrupted.
    episodes: int
    corrections: int
    # Minutes a person or script held a robot, and minutes robots acted, evaluation included.
    human_minutes: float
    robot_minutes: float
    # Share of online data in a batch after the clip, mean over tasks; NaN before the first.
    omega: float
    # Held-out episodes of the running fleet since the beginning.
    eval_successes: int
    eval_trials: int
    updates_per_s: float
    loss: float


def windowed_success(samples: Sequence[Sample], *, trials: int = 24) -> list[Score]:
    """Return, at each sample, the fleet's held-out score over about the last `trials` episodes.

    The window starts at the latest sample that leaves at least `trials` episodes in it; near the
    beginning it holds what there is.
    """
    scores = []
    for i, now in enumerate(samples):
        start = None
        for before in reversed(samples[:i]):
            if now.eval_trials - before.eval_trials >= trials:
                start = before
                break
        won = now.eval_successes - (start.eval_successes if start else 0)
        tried = now.eval_trials - (start.eval_trials if start else 0)
        scores.append(Score(won, tried))
    return scores


def quantile(values: Iterable[float], q: float) -> float:
    """Return the q-quantile by linear interpolation; NaN when there are no values."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (position - low) * (ordered[high] - ordered[low])


def loop_result(
    *,
    clock: str,
    policy: str,
    base: Mapping[str, Score],
    control: Mapping[str, Score],
    final: Mapping[str, Score],
    minutes: float,
    last: Sample,
    mixed_version_episodes: int,
) -> dict[str, object]:
    """Return the object the loop experiment ends with, in the order of its keys."""
    scores = {"base": pooled(base), "control": pooled(control), "final": pooled(final)}
    return {
        "experiment": "loop",
        "clock": clock,
        "policy": policy,
        "base": round(scores["base"].rate, 4),
        "control": round(scores["control"].rate, 4),
        "final": round(scores["final"].rate, 4),
        "final_low": round(scores["final"].interval[0], 4),
        "final_minus_control": round(scores["final"].rate - scores["control"].rate, 4),
        "minutes": round(minutes, 2),
        "episodes": last.episodes,
        "corrections": last.corrections,
        "human_minutes": round(last.human_minutes, 2),
        "mixed_version_episodes": mixed_version_episodes,
    }


def last_line(result: Mapping[str, object]) -> str:
    """Return a result as one line of strict JSON: what is not a number becomes null."""
    clean = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in result.items()
    }
    return json.dumps(clean, allow_nan=False)


def markdown_table(arms: Mapping[str, Mapping[str, Score]]) -> str:
    """Return success by task and arm as Markdown, with the interval of each arm's pooled score."""
    names = list(arms)
    tasks = list(dict.fromkeys(task for scores in arms.values() for task in scores))
    lines = ["| task | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for task in tasks:
        cells = [_cell(arms[name].get(task)) for name in names]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    totals = []
    for name in names:
        score = pooled(arms[name])
        low, high = score.interval
        totals.append(f"{score.rate:.3f} ({low:.3f}–{high:.3f}, n={score.trials})")
    lines.append("| **all** | " + " | ".join(totals) + " |")
    return "\n".join(lines) + "\n"


def _cell(score: Score | None) -> str:
    return "" if score is None else f"{score.successes}/{score.trials}"
