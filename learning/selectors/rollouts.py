"""Reads of rollouts: what each robot is to run, whom a share means, how a canary stands."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from fleet.models import Robot
from learning.core import canary as core
from learning.core.comparisons import anytime_interval
from learning.exceptions import Unprocessable
from learning.models import Canary, Episode, Learner, PolicyChange, PolicyVersion, Rollout
from learning.models.episodes import Outcome, Purpose
from learning.selectors.learners import latest_version
from learning.selectors.search import made_by

# A robot that was heard this lately can begin a canary.
HEARD_WITHIN = timedelta(seconds=15)
CHANGES_SHOWN = 20


def rollout_of(learner: Learner) -> Rollout:
    """Return a learner's rollout; unsaved, with the defaults, where nobody changed it yet."""
    return Rollout.objects.filter(learner=learner).first() or Rollout(learner=learner)


def fleet_version(rollout: Rollout) -> PolicyVersion | None:
    """Return what robots run that are in no canary and no part; None before the first version."""
    if rollout.mode == Rollout.Mode.AUTOMATIC:
        return latest_version(rollout.learner)
    return rollout.target


def running_canary(learner: Learner) -> Canary | None:
    """Return the learner's canary that runs."""
    return learner.canaries.filter(state=Canary.State.RUNNING).first()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the robots of a learner are to run."""

    fleet: PolicyVersion | None
    # Versions of single robots, by name, in place of the fleet's.
    special: dict[str, PolicyVersion]

    def version_for(self, robot: str) -> PolicyVersion | None:
        """Return what a robot is to run."""
        return self.special.get(robot, self.fleet)


def wanted(rollout: Rollout) -> Wanted:
    """Return what the robots of a learner are to run, pins aside."""
    special: dict[str, PolicyVersion] = {}
    if rollout.part is not None:
        special = dict.fromkeys(rollout.part_robots, rollout.part)
    canary = running_canary(rollout.learner)
    if canary is not None:
        special |= dict.fromkeys(canary.robots, canary.candidate)
    return Wanted(fleet_version(rollout), special)


# ---- whom --------------------------------------------------------------------------------------


def share_of(names: Iterable[str], percent: int, *, key: str) -> list[str]:
    """Return `percent` of the robots, at least one, sorted by name; always the same ones.

    Robots are put in an order by a hash of their name and `key`: a larger share holds every robot
    of a smaller one, and a robot that joins moves few others in or out.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{key}:{name}".encode()).digest())
    count = min(len(ordered), max(1, math.floor(percent / 100 * len(ordered) + 0.5)))
    return sorted(ordered[:count])


def chosen_robots(
    learner: Learner, *, share: int | None, robots: Sequence[str] | None
) -> list[str] | None:
    """Return the names a rollout is for: None for all, else a share or those that are named.

    Raises:
        Unprocessable: A share outside 1 to 100, both or unknown robots.
    """
    if robots is not None and share is not None:
        raise Unprocessable("choose a share or name robots, not both")
    if robots is not None:
        return named_robots(robots)
    if share is None or share == 100:
        return None
    if not 1 <= share <= 100:
        raise Unprocessable(f"a share is from 1 to 100 percent, not {share}")
    names = Robot.objects.filter(enabled=True).values_list("name", flat=True)
    return share_of(names, share, key=learner.name)


def named_robots(names: Sequence[str]) -> list[str]:
    """Return the names of robots, sorted. Raises Unprocessable for none and for unknown ones."""
    wanted_names = sorted({name for name in names if name})
    if not wanted_names:
        raise Unprocessable("name at least one robot")
    known = set(Robot.objects.filter(name__in=wanted_names).values_list("name", flat=True))
    if unknown := [name for name in wanted_names if name not in known]:
        raise Unprocessable(f"there is no robot {unknown[0]}"[:200])
    return wanted_names


@dataclass(frozen=True, slots=True)
class Move:
    """What a change would do to one robot."""

    robot: Robot
    # Number it is assigned now, and after; both None: it stays as it is.
    before: int | None
    after: int
    # Why it does not change; empty when it does.
    stays: str


def moves(version: PolicyVersion, names: Sequence[str] | None) -> list[Move]:
    """Return what assigning `version` to robots would do to each of them, by name."""
    rows = Robot.objects.order_by("name")
    rows = rows.filter(enabled=True) if names is None else rows.filter(name__in=names)
    found = []
    for robot in rows:
        stays = ""
        if robot.pinned_at is not None:
            stays = f"pinned to v{robot.assigned_number} by {robot.pinned_by}"
        elif not robot.enabled:
            stays = "disabled: it gets the version when it is enabled"
        elif robot.assigned_sha256 == version.sha256 and robot.assigned_number == version.number:
            stays = "is assigned it already"
        found.append(Move(robot, robot.assigned_number, version.number, stays))
    return found


def robots_for_canary(learner: Learner, now: datetime | None = None) -> list[str]:
    """Return robots that can take part in a canary: enabled, connected, not pinned; by name.

    Robots that run another learner's version are left to it.
    """
    heard_from = (now or timezone.now()) - HEARD_WITHIN
    rows = Robot.objects.filter(
        enabled=True, pinned_at__isnull=True, last_heartbeat_at__gte=heard_from
    )
    own = PolicyVersion.objects.filter(learner=learner).values("sha256")
    return list(
        rows.filter(assigned_sha256__in=own).order_by("name").values_list("name", flat=True)
    )


# ---- canaries ------------------------------------------------------------------------------------


def arm_of(canary: Canary, version: PolicyVersion, robots: Sequence[str]) -> core.Arm:
    """Return what robots did with a version since the canary began, in the order of arrival.

    Finished episodes of the fleet's own work, those called off and trials of evaluations left out.
    Success means without a takeover: a rescue is not the version's doing. Held-out episodes say
    nothing of takeovers, nobody may take them over.
    """
    rows = made_by(version).filter(
        robot__name__in=robots,
        started_at__gte=canary.started_at,
        state=Episode.State.CLOSED,
        complete=True,
        mixed_versions=False,
        trial__isnull=True,
    )
    if canary.ended_at is not None:
        rows = rows.filter(closed_at__lte=canary.ended_at)
    rows = rows.exclude(outcome_in_force=Outcome.ABORT).exclude(purpose=Purpose.DEMONSTRATION)
    seen = rows.order_by("closed_seq").values_list("outcome_in_force", "human_steps", "purpose")
    found = list(seen)
    return core.Arm(
        tuple(outcome == Outcome.SUCCESS and not driven for outcome, driven, _ in found),
        tuple(driven > 0 for _, driven, purpose in found if purpose == Purpose.TRAIN),
    )


def terms_of(canary: Canary) -> core.Terms:
    """Return what a canary declared."""
    return core.Terms(
        alpha=canary.alpha,
        margin=canary.margin,
        episodes=canary.episodes,
        block=(canary.block_incumbent, canary.block_candidate),
    )


def deadline_of(canary: Canary) -> datetime:
    """Return when a canary ends at the latest."""
    return canary.started_at + timedelta(minutes=canary.limit_min)


def standing_of(canary: Canary, now: datetime | None = None) -> core.Standing:
    """Return how a canary stands now, or stood when it ended."""
    now = canary.ended_at or now or timezone.now()
    return core.stand(
        arm_of(canary, canary.incumbent, canary.others),
        arm_of(canary, canary.candidate, canary.robots),
        terms_of(canary),
        time_is_up=now >= deadline_of(canary),
    )


@dataclass(frozen=True, slots=True)
class Bar:
    """One measure of one arm: a share with the interval that holds at every look."""

    name: str
    successes: int
    n: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Successes over episodes; 0 without any."""
        return self.successes / self.n if self.n else 0.0

    @property
    def drawn(self) -> tuple[float, float, float]:
        """Where the interval begins, how long it is, and the share; in percent of the picture."""
        return 100 * self.low, 100 * (self.high - self.low), 100 * self.share


@dataclass(frozen=True, slots=True)
class CanaryView:
    """A canary as its page shows it."""

    canary: Canary
    standing: core.Standing
    # Measure in words, and its two bars: the candidate's and the incumbent's.
    measures: tuple[tuple[str, tuple[Bar, Bar]], ...]
    # Episodes of the arm that has fewer, and the share of those that are needed.
    episodes: int
    progress: float
    deadline: datetime
    # With which each interval holds, however often one looks.
    confidence: float


def canary_view(canary: Canary) -> CanaryView:
    """Return everything a page shows of a canary."""
    standing = standing_of(canary)
    names = (f"v{canary.candidate.number} candidate", f"v{canary.incumbent.number} incumbent")
    arms = (standing.candidate, standing.incumbent)

    def bars(scores) -> tuple[Bar, Bar]:
        first, second = (
            Bar(name, s.successes, s.trials, *anytime_interval(s, alpha=canary.alpha))
            for name, s in zip(names, scores, strict=True)
        )
        return first, second

    fewest = min(len(arm.succeeded) for arm in arms)
    return CanaryView(
        canary=canary,
        standing=standing,
        measures=(
            ("Success without a takeover", bars([arm.success for arm in arms])),
            ("Episodes with a takeover", bars([arm.takeovers for arm in arms])),
        ),
        episodes=fewest,
        progress=min(1.0, fewest / canary.episodes),
        deadline=deadline_of(canary),
        confidence=1 - canary.alpha,
    )


# ---- what was done -------------------------------------------------------------------------------


def recent_changes(version: PolicyVersion | None = None) -> QuerySet[PolicyChange]:
    """Return who changed what robots run, newest first; of one version, or of all."""
    rows = PolicyChange.objects.select_related("operator__user", "version__learner", "learner")
    if version is not None:
        rows = rows.filter(version=version)
    return rows.order_by("-id")[:CHANGES_SHOWN]
