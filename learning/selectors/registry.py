"""The registry: every version with what is known of it and which robots run it."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count, Q, QuerySet

from fleet.models import Robot
from learning.models import Canary, Episode, Learner, PolicyVersion, VersionTag
from learning.models.episodes import Outcome, Purpose
from learning.selectors.metrics import Rate, wilson
from learning.selectors.search import used_by

# What a version may be filtered by, beside its gate: what became of it.
STATES = {
    "published": "passed its gate",
    "rejected": "rejected by its gate",
    "assigned": "assigned to robots",
    "running": "running on robots",
    "canary": "in a canary now",
    "promoted": "promoted by a canary",
    "rolled_back": "rolled back by a canary",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One version as the registry lists it."""

    version: PolicyVersion
    # Held-out success, trials of evaluations included; without trials n is 0.
    held_out: Rate
    learned_from: int
    # Robots that say they run it, and robots that are to.
    running: tuple[Robot, ...]
    assigned: tuple[Robot, ...]
    canary: Canary | None


def registered(
    *, learner: Learner | None = None, tag: str = "", state: str = ""
) -> QuerySet[PolicyVersion]:
    """Return the versions of a filter, newest first; an empty field does not filter."""
    rows = PolicyVersion.objects.select_related("learner", "parent", "round")
    if learner is not None:
        rows = rows.filter(learner=learner)
    if tag:
        rows = rows.filter(tags__name=tag)
    match state:
        case PolicyVersion.State.PUBLISHED | PolicyVersion.State.REJECTED:
            rows = rows.filter(state=state)
        case "assigned":
            enabled = Robot.objects.filter(enabled=True)
            rows = rows.filter(sha256__in=enabled.values("assigned_sha256"))
        case "running":
            enabled = Robot.objects.filter(enabled=True)
            rows = rows.filter(sha256__in=enabled.values("reported_sha256"))
        case "canary":
            rows = rows.filter(canaries__state=Canary.State.RUNNING)
        case "promoted" | "rolled_back":
            rows = rows.filter(canaries__state=state).distinct()
    return rows.prefetch_related("tags").order_by("-created_at", "-number")


def entries(versions: Sequence[PolicyVersion]) -> list[Entry]:
    """Return versions with all that the registry shows of them; one page at a time."""
    robots = list(Robot.objects.filter(enabled=True).order_by("name"))
    rates = _held_out(versions)
    canaries = Canary.objects.filter(candidate__in=[v.pk for v in versions]).order_by("pk")
    last = {canary.candidate_id: canary for canary in canaries}
    return [
        Entry(
            version=version,
            held_out=rates[version.pk],
            learned_from=used_by(version).values("episode").distinct().count(),
            running=tuple(r for r in robots if r.reported_sha256 == version.sha256),
            assigned=tuple(
                r
                for r in robots
                if (r.assigned_number, r.assigned_sha256) == (version.number, version.sha256)
            ),
            canary=last.get(version.pk),
        )
        for version in versions
    ]


def _held_out(versions: Sequence[PolicyVersion]) -> dict[int, Rate]:
    rows = (
        Episode.objects.filter(
            policy_number__in=[v.number for v in versions],
            purpose=Purpose.EVAL,
            state=Episode.State.CLOSED,
            complete=True,
        )
        .exclude(outcome_in_force=Outcome.ABORT)
        .order_by()
        .values_list("policy_number", "policy_sha256")
        .annotate(n=Count("pk"), won=Count("pk", filter=Q(outcome_in_force=Outcome.SUCCESS)))
    )
    counts = {(number, sha256): (won, n) for number, sha256, n, won in rows}
    found = {}
    for version in versions:
        # A robot that named no hash said the number only (selectors.search).
        keys = {(version.number, version.sha256), (version.number, "")}
        seen = [counts.get(key, (0, 0)) for key in keys]
        won, n = sum(won for won, _ in seen), sum(n for _, n in seen)
        found[version.pk] = wilson(won, n)
    return found


def tag_names() -> list[str]:
    """Return every tag in use, each once."""
    return list(VersionTag.objects.order_by("name").values_list("name", flat=True).distinct())
