"""Canaries: begun by a lead or by a learner's mode, ended by a verdict, a lead, or their time.

`advance_canaries` is the one step that moves them, and rows are all it knows: it may be called as
often as one likes, in any process.
"""

from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from fleet.models import Operator
from learning.core.canary import Standing, Verdict, blocks_for
from learning.exceptions import Conflict, Unprocessable
from learning.models import Canary, Learner, PolicyChange, PolicyVersion, Rollout
from learning.selectors.learners import latest_version
from learning.selectors.rollouts import (
    fleet_version,
    robots_for_canary,
    running_canary,
    share_of,
    standing_of,
)
from learning.services.assignments import assign_wanted, lock_rollout, note_change

TERMS = ("share", "alpha", "margin", "episodes", "limit_min")
_WHY = {
    Verdict.BETTER: "it is better",
    Verdict.NOT_WORSE: "it is not worse beyond the margin",
    Verdict.FEWER_SUCCESSES: "it succeeds less often",
    Verdict.MORE_TAKEOVERS: "it needs people more often",
    Verdict.NOT_SHOWN: "it could not be shown to be as good",
    Verdict.TIMED_OUT: "its time was up before it could be shown to be as good",
}


def start_canary(
    candidate: PolicyVersion,
    *,
    operator: Operator | None,
    incumbent: PolicyVersion | None = None,
    robots: Sequence[str] | None = None,
    reason: str = "",
    **terms: float,
) -> Canary:
    """Let a few robots run `candidate` until it is judged against the incumbent.

    Afterwards those robots are assigned the candidate and all others the incumbent, and newer
    versions wait. A learner that was automatic has the mode canary from then on. Locks the rollout.

    Args:
        candidate: A published version.
        operator: Who asks; None for the learner's mode.
        incumbent: What it is compared with; by default the fleet's version, or the candidate's
            parent where the fleet runs the candidate already.
        robots: Who runs it; by default the rollout's share of those that are connected.
        reason: Why, for the record.
        terms: Any of `TERMS`; the rollout's where not given.

    Raises:
        Conflict: A canary of this learner runs.
        Unprocessable: Nothing to compare with, too few robots, or terms out of range.
    """
    learner = candidate.learner
    with transaction.atomic():
        rollout = lock_rollout(learner)
        if running_canary(learner) is not None:
            raise Conflict(f"a canary of {learner.name} runs already: cancel it first")
        incumbent = incumbent or _incumbent_for(candidate, rollout)
        _check_versions(candidate, incumbent)
        terms = {name: terms.get(name, getattr(rollout, name)) for name in TERMS}
        ready = robots_for_canary(learner)
        chosen, others = _arms(learner, ready, robots, share=int(terms["share"]))
        block = blocks_for(len(others), len(chosen))
        canary = Canary(
            learner=learner,
            candidate=candidate,
            incumbent=incumbent,
            robots=chosen,
            others=others,
            block_incumbent=block[0],
            block_candidate=block[1],
            started_by=operator,
            **terms,
        )
        try:
            canary.full_clean()
        except ValidationError as error:
            field, texts = next(iter(error.message_dict.items()))
            raise Unprocessable(f"{field.replace('_', ' ')}: {texts[0]}") from None
        canary.save()
        was_automatic = rollout.mode == Rollout.Mode.AUTOMATIC
        if was_automatic:
            rollout.mode = Rollout.Mode.CANARY
        rollout.target, rollout.part, rollout.part_robots = incumbent, None, []
        rollout.save()
        note_change(
            PolicyChange.Kind.CANARY_STARTED,
            f"v{candidate.number} on {', '.join(chosen)} against v{incumbent.number} on"
            f" {', '.join(others)}"
            + (", and the mode of the learner is canary now" if was_automatic else ""),
            learner=learner,
            version=candidate,
            operator=operator,
            reason=reason or ("" if operator else "every new version goes through a canary"),
        )
        assign_wanted(learner)
    return canary


def _incumbent_for(candidate: PolicyVersion, rollout: Rollout) -> PolicyVersion | None:
    current = fleet_version(rollout)
    if current is not None and current.pk == candidate.pk and candidate.parent is not None:
        return candidate.parent
    return current


def _check_versions(candidate: PolicyVersion, incumbent: PolicyVersion | None) -> None:
    if incumbent is None:
        raise Unprocessable("the fleet runs no version yet: roll one out first")
    for version in (candidate, incumbent):
        if version.state != PolicyVersion.State.PUBLISHED:
            raise Unprocessable(f"version {version.number} did not pass its gate")
    if candidate.pk == incumbent.pk:
        raise Unprocessable(
            f"the fleet runs v{candidate.number}: choose another version to compare it with"
        )
    if candidate.learner_id != incumbent.learner_id:
        raise Unprocessable("both versions must be of one learner")


def _arms(
    learner: Learner, ready: list[str], robots: Sequence[str] | None, *, share: int
) -> tuple[list[str], list[str]]:
    if robots is not None:
        chosen = sorted(set(robots))
        if unfit := [name for name in chosen if name not in ready]:
            raise Unprocessable(f"{unfit[0]} cannot take part: it is pinned, disabled or not there")
    elif len(ready) < 2:
        raise Unprocessable(
            f"a canary needs two robots that are connected and not pinned; there are {len(ready)}"
        )
    else:
        chosen = share_of(ready, share, key=learner.name)[: len(ready) - 1]
    others = [name for name in ready if name not in chosen]
    if not chosen or not others:
        raise Unprocessable("leave at least one robot to each version")
    return chosen, others


def cancel_canary(canary: Canary, *, operator: Operator, reason: str = "") -> Canary:
    """End a canary without a verdict: its robots get the incumbent back.

    Its candidate is not tried again by the learner's mode; newer ones are. Of one that has ended
    it changes nothing. Locks the rollout.
    """
    with transaction.atomic():
        lock_rollout(canary.learner)
        canary = Canary.objects.get(pk=canary.pk)
        if canary.open:
            drop_canary(canary, f"cancelled by {operator.name}", operator=operator, reason=reason)
            assign_wanted(canary.learner)
    return canary


def drop_canary(canary: Canary, note: str, *, operator: Operator | None, reason: str = "") -> None:
    """Mark a running canary cancelled; only under the rollout's lock. Robots are not touched."""
    canary.state, canary.note = Canary.State.CANCELLED, note[:500]
    canary.ended_at = timezone.now()
    canary.save()
    note_change(
        PolicyChange.Kind.CANARY_ENDED,
        f"canary of v{canary.candidate.number} {note}",
        learner=canary.learner,
        version=canary.candidate,
        operator=operator,
        reason=reason,
    )


def advance_canaries() -> list[Canary]:
    """End every canary that has a verdict, and begin those that learners' modes want.

    Returns the canaries that ended or began. Safe to repeat; locks each learner's rollout, so that
    of two processes one gives the verdict.
    """
    running = Canary.objects.filter(state=Canary.State.RUNNING).order_by("pk")
    ended = [pk for pk in running.values_list("pk", flat=True) if _judged(pk)]
    moved = list(Canary.objects.filter(pk__in=ended).order_by("pk"))
    for rollout in Rollout.objects.filter(mode=Rollout.Mode.CANARY).select_related("learner"):
        begun = begin_next(rollout.learner)
        moved += [begun] if begun is not None else []
    return moved


def _judged(canary_id: int) -> bool:
    with transaction.atomic():
        learner = Learner.objects.get(canaries=canary_id)
        rollout = lock_rollout(learner)
        canary = Canary.objects.select_related("candidate", "incumbent").get(pk=canary_id)
        if not canary.open:
            return False
        standing = standing_of(canary)
        if standing.verdict is None:
            return False
        verdict = standing.verdict
        promoted = verdict.promotes
        canary.state = Canary.State.PROMOTED if promoted else Canary.State.ROLLED_BACK
        canary.verdict, canary.ended_at = verdict, timezone.now()
        canary.note = f"{_WHY[verdict]}: {_figures(standing)}"[:500]
        canary.save()
        if promoted:
            rollout.target = canary.candidate
            rollout.save()
        done = "promoted to all robots" if promoted else f"back to v{canary.incumbent.number}"
        note_change(
            PolicyChange.Kind.CANARY_ENDED,
            f"v{canary.candidate.number} {done}",
            learner=learner,
            version=canary.candidate,
            reason=canary.note,
        )
        assign_wanted(learner)
    return True


def _figures(standing: Standing) -> str:
    c, i = standing.candidate, standing.incumbent
    return (
        f"{c.success.successes} of {c.success.trials} episodes succeeded without a takeover against"
        f" {i.success.successes} of {i.success.trials}, and {c.takeovers.successes} of"
        f" {c.takeovers.trials} had one against {i.takeovers.successes} of {i.takeovers.trials}"
    )


def begin_next(learner: Learner) -> Canary | None:
    """Begin the canary of the newest version if the learner's mode wants one; return it.

    A version whose canary ended, however it did, is not tried again. While fewer than two robots
    are connected it waits. Without a fleet version the newest becomes that. Locks the rollout.
    """
    with transaction.atomic():
        rollout = lock_rollout(learner)
        newest = latest_version(learner)
        if rollout.mode != Rollout.Mode.CANARY or newest is None or running_canary(learner):
            return None
        if rollout.target is None:
            rollout.target = newest
            rollout.save()
            assign_wanted(learner)
            return None
        tried = learner.canaries.order_by("-candidate__number").first()
        last = max(rollout.target.number, tried.candidate.number if tried else 0)
        if newest.number <= last or len(robots_for_canary(learner)) < 2:
            return None
        return start_canary(newest, operator=None)
