"""Files to keep: an evaluation as JSON and as CSV, and episodes as CSV."""

import csv
import io
import math
from collections.abc import Iterator

from learning.models import Episode, Evaluation
from learning.selectors.evaluations import Line, results, trial_rows, version_name
from learning.selectors.search import Search, chunks

COLUMNS = (
    "task", "seed", "version", "state", "outcome", "duration_s", "robot", "episode", "attempts",
    "reason",
)  # fmt: skip
EPISODE_COLUMNS = (
    "uid", "started_at", "ended_at", "robot", "task", "instruction", "purpose", "state",
    "complete", "outcome_in_force", "outcome_of_robot", "judged_outcome", "judge",
    "policy_number", "policy_sha256", "steps", "duration_s", "human_steps", "corrected_by",
    "first_trained_step", "first_trained_at",
)  # fmt: skip


def export(evaluation: Evaluation) -> dict[str, object]:
    """Return an evaluation with all that was declared, found and measured, ready for JSON.

    What is not a number becomes None.
    """
    rows = trial_rows(evaluation)
    lines = results(evaluation, rows)
    names = [version_name(version) for version in evaluation.versions]
    return {
        "evaluation": str(evaluation.uid),
        "state": evaluation.state,
        "note": evaluation.note,
        "requested_by": evaluation.requested_by.name,
        "created_at": evaluation.created_at.isoformat(),
        "ended_at": evaluation.ended_at.isoformat() if evaluation.ended_at else None,
        "versions": [
            {"name": name, "number": version.number, "sha256": version.sha256}
            for name, version in zip(names, evaluation.versions, strict=True)
        ],
        "declared": {
            "tasks": sorted({row.task for row in rows}),
            "trials_per_task": evaluation.trials_per_task,
            "first_seed": evaluation.first_seed,
            "timeout_ticks": evaluation.timeout_ticks,
            "stop_when_decided": evaluation.stop_when_decided,
            "target": evaluation.target,
        },
        "decision": evaluation.decision,
        "results": [_exported(line, names) for line in lines],
        "trials": [{name: getattr(row, name) for name in COLUMNS} for row in rows],
    }


def as_csv(evaluation: Evaluation) -> str:
    """Return a row for each trial, with a header; text that a spreadsheet would run is quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in trial_rows(evaluation):
        writer.writerow([_inert(getattr(row, name)) for name in COLUMNS])
    return out.getvalue()


def episode_lines(search: Search) -> Iterator[str]:
    """Yield the CSV of a search, the header first; it holds one chunk of episodes at a time."""
    yield _lines([EPISODE_COLUMNS])
    for episodes in chunks(search):
        yield _lines([_cells(episode) for episode in episodes])


def _cells(episode: Episode) -> list[object]:
    known = {
        "robot": episode.robot.name if episode.robot else "",
        "task": episode.task.name,
        "outcome_of_robot": episode.outcome,
        "corrected_by": " ".join(sorted({s.operator for s in episode.interventions.all()})),
        "duration_s": round(episode.duration_s, 3),
        "started_at": episode.started_at.isoformat(),
    }
    for name in ("ended_at", "first_trained_at"):
        at = getattr(episode, name)
        known[name] = at.isoformat() if at else ""
    return [known[name] if name in known else getattr(episode, name) for name in EPISODE_COLUMNS]


def _lines(rows: list) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_inert(cell) for cell in row] for row in rows)
    return out.getvalue()


def _inert(value: object) -> object:
    # Reasons and names come from peers: a cell that begins so would be a formula.
    return (
        f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
    )


def _exported(line: Line, names: list[str]) -> dict[str, object]:
    out: dict[str, object] = {
        "task": line.name,
        "versions": {
            name: {
                "successes": arm.score.successes, "n": arm.score.trials,
                "rate": _finite(arm.score.rate), "wilson_95": arm.score.interval,
                "anytime_95": arm.anytime, "episodes_per_hour": _finite(arm.episodes_per_hour),
                "successes_per_hour": _finite(arm.successes_per_hour),
            }
            for name, arm in zip(names, line.arms, strict=True)
        },
    }  # fmt: skip
    if line.paired is not None:
        out["paired"] = {
            "both": line.paired.both, "first_only": line.paired.first_only,
            "second_only": line.paired.second_only, "neither": line.paired.neither,
            "mcnemar_p": line.p_value, "difference_95": line.difference,
            "evidence": line.evidence,
        }  # fmt: skip
    return out


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
