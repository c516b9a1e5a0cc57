"""What a running system's database says, read as a file: all SQL of the experiments is here.

An experiment is a client and imports no Django. The database of a system it started is an SQLite
file in write-ahead mode, so a reader sees a consistent moment and holds up nobody.
"""

import datetime
import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learning.experiments.analysis import Sample


class NoLedger(RuntimeError):
    """There is no database to read where one was expected."""


@dataclass(frozen=True, slots=True)
class Version:
    """A published version."""

    number: int
    step: int
    sha256: str
    created_s: float
    # When it was first assigned to robots; None before.
    assigned_s: float | None


def seconds(text: str | None) -> float | None:
    """Return a Django SQLite timestamp (UTC, no zone) as seconds since 1970."""
    if text is None:
        return None
    return datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC).timestamp()


def _stamp(wall_s: float) -> str:
    moment = datetime.datetime.fromtimestamp(wall_s, datetime.UTC).replace(tzinfo=None)
    return moment.isoformat(sep=" ", timespec="microseconds")


class Ledger:
    """Reads one system's database. Every call opens and closes its own connection."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise NoLedger(f"no database at {path}")
        self._uri = f"{path.resolve().as_uri()}?mode=ro"

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._uri, uri=True, timeout=10)
        try:
            yield connection
        finally:
            connection.close()

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._connect() as connection:
            return connection.execute(sql, arguments).fetchall()

    def one(self, sql: str, *arguments: Any) -> Any:
        """Return the first column of the first row."""
        return self.rows(sql, *arguments)[0][0]

    def sample(self, started_s: float, now_s: float) -> Sample:
        """Return the state of the system's learning, counted from `started_s` (wall clock)."""
        since = _stamp(started_s)
        episodes = self.one(
            "SELECT COUNT(*) FROM learning_episode"
            " WHERE state = 'closed' AND purpose = 'train' AND started_at >= ?",
            since,
        )
        human_s, robot_s = self.rows(
            "SELECT COALESCE(SUM(human_s), 0), COALESCE(SUM(steps * control_period_s), 0)"
            " FROM learning_episode"
            " WHERE state = 'closed' AND purpose != 'demonstration' AND started_at >= ?",
            since,
        )[0]
        corrections = self.one(
            "SELECT COUNT(*) FROM learning_intervention i"
            " JOIN learning_episode e ON e.id = i.episode_id"
            " WHERE e.state = 'closed' AND e.purpose = 'train' AND e.started_at >= ?",
            since,
        )
        trials, successes = self.rows(
            "SELECT COUNT(*), COALESCE(SUM(outcome = 'success'), 0) FROM learning_episode"
            " WHERE state = 'closed' AND complete AND purpose = 'eval' AND trial IS NULL"
            " AND started_at >= ?",
            since,
        )[0]
        metric = self.rows('SELECT "values" FROM learning_learnermetric ORDER BY id DESC LIMIT 1')
        values = json.loads(metric[0][0]) if metric else {}
        omegas = [w for w in (values.get("omega") or {}).values() if w is not None]
        return Sample(
            minute=(now_s - started_s) / 60,
            step=self.step(),
            version=self.one("SELECT COALESCE(MAX(number), 0) FROM learning_policyversion"),
            episodes=episodes,
            corrections=corrections,
            human_minutes=human_s / 60,
            robot_minutes=robot_s / 60,
            omega=sum(omegas) / len(omegas) if omegas else math.nan,
            eval_successes=successes,
            eval_trials=trials,
            updates_per_s=values.get("steps_per_s") or 0.0,
            loss=values.get("loss") or math.nan,
        )

    def step(self) -> int:
        """Return how many gradient steps the learner has taken."""
        return int(self.one("SELECT COALESCE(MAX(step), 0) FROM learning_learner"))

    def learner(self) -> tuple[str, dict[str, Any]]:
        """Return the algorithm and the configuration of the first learner."""
        algorithm, config = self.rows(
            "SELECT algorithm, config FROM learning_learner ORDER BY id LIMIT 1"
        )[0]
        return str(algorithm), json.loads(config)

    def versions(self) -> list[Version]:
        """Return the published versions, oldest first."""
        rows = self.rows(
            "SELECT number, step, sha256, created_at, assigned_at FROM learning_policyversion"
            " WHERE state = 'published' ORDER BY number"
        )
        return [
            Version(number, step, sha256, seconds(created) or 0.0, seconds(assigned))
            for number, step, sha256, created, assigned in rows
        ]

    def mixed_version_episodes(self) -> int:
        """Count episodes whose autonomous steps name more than one version."""
        return int(self.one("SELECT COUNT(*) FROM learning_episode WHERE mixed_versions"))

    def partial_episodes(self) -> int:
        """Count incomplete episodes that learners could see: closed, trainable, yet not whole.

        An episode counts when it is closed as complete and its parts do not add up to its steps,
        or when it was trained on although it is open or incomplete.
        """
        return int(
            self.one(
                "SELECT COUNT(*) FROM learning_episode e WHERE"
                " (e.state = 'closed' AND e.complete AND e.steps !="
                "   (SELECT COALESCE(SUM(p.steps), 0) FROM learning_episodepart p"
                "    WHERE p.episode_id = e.id))"
                " OR (e.first_trained_at IS NOT NULL AND (e.state = 'open' OR NOT e.complete))"
            )
        )

    def outcomes(self, started_s: float) -> dict[str, dict[str, int]]:
        """Count training episodes since `started_s` by task and outcome."""
        rows = self.rows(
            "SELECT t.name, e.outcome, COUNT(*) FROM learning_episode e"
            " JOIN fleet_task t ON t.id = e.task_id"
            " WHERE e.state = 'closed' AND e.purpose = 'train' AND e.started_at >= ?"
            " GROUP BY t.name, e.outcome",
            _stamp(started_s),
        )
        counts: dict[str, dict[str, int]] = {}
        for task, outcome, number in rows:
            counts.setdefault(task, {})[outcome] = number
        return counts

    def link_quality(self, started_s: float) -> dict[str, float]:
        """Sum what the robots recorded of their links while somebody drove, since `started_s`."""
        rows = self.rows(
            "SELECT link, human_steps FROM learning_episode"
            " WHERE state = 'closed' AND purpose = 'train' AND human_steps > 0"
            " AND started_at >= ?",
            _stamp(started_s),
        )
        links = [json.loads(link) for link, _ in rows]
        ages = [link.get("command_age_p95_ms", 0.0) for link in links]
        return {
            "driven_episodes": len(rows),
            "human_steps": sum(steps for _, steps in rows),
            "dead_man_ticks": sum(link.get("dead_man_ticks", 0) for link in links),
            "discarded_commands": sum(link.get("discarded_commands", 0) for link in links),
            "command_age_p95_ms": max(ages, default=0.0),
        }
