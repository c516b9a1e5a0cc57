"""From plans to robots: every robot is assigned what its learner's rollout says it is to run.

What a robot is to run follows from rows alone, so this may be repeated by whoever has news: a
publish, a lead, a verdict, a sweep.
"""

from collections.abc import Collection

from django.db import transaction
from django.utils import timezone

from fleet.models import Operator, Robot
from fleet.protocol.messages import MAX_INLINE_WEIGHTS_BYTES
from fleet.protocol.spec import PolicyRef
from fleet.services.policies import assign_policy
from learning.models import Learner, PolicyChange, PolicyVersion, Rollout
from learning.selectors.rollouts import Wanted, wanted


def policy_ref(version: PolicyVersion) -> PolicyRef:
    """Return a version as the value that robots are told."""
    return PolicyRef(
        number=version.number,
        sha256=version.sha256,
        url=f"/api/policies/{version.sha256}/weights",
        size_bytes=version.size_bytes,
        parent=version.parent.number if version.parent else None,
    )


def lock_rollout(learner: Learner) -> Rollout:
    """Return a learner's rollout, made if there was none, locked; only inside a transaction.

    Whoever changes what robots run takes this lock first, then those of robots.
    """
    Rollout.objects.get_or_create(learner=learner)
    return Rollout.objects.select_for_update().get(learner=learner)


def assign_wanted(
    learner: Learner,
    *,
    weights: dict[str, bytes] | None = None,
    take_over: bool | Collection[str] = False,
) -> dict[str, list[str]]:
    """Assign every robot of a learner what it is to run; return the names by version's sha256.

    Afterwards no enabled robot that follows this learner, pinned ones aside, is assigned anything
    else. A robot follows the learner whose version it is assigned; one that is assigned nothing
    follows any. An automatic learner also takes robots of another automatic one whose number is
    lower. Safe to repeat: robots that are right are told nothing. Locks the rollout, then robots;
    publishes `PolicyAnnouncement` on commit.

    Args:
        learner: Whose plan.
        weights: Artifacts by sha256; those up to the inline limit ride in the announcement.
        take_over: Also take these robots, or all, from another learner: a lead said so.
    """
    with transaction.atomic():
        rollout = lock_rollout(learner)
        plan = wanted(rollout)
        wrong = _wrong(rollout, plan, take_over=take_over)
        # All at once in the order of their keys, as everybody locks them: version by version would
        # cross the heartbeats.
        names = [name for _, names in wrong for name in names]
        list(Robot.objects.select_for_update().filter(name__in=names).order_by("pk"))
        assigned: dict[str, list[str]] = {}
        for version, mine in wrong:
            data = (weights or {}).get(version.sha256)
            if data is not None and len(data) > MAX_INLINE_WEIGHTS_BYTES:
                data = None
            told = assign_policy(policy_ref(version), weights=data, robots=mine, even_if_older=True)
            assigned[version.sha256] = told
        used = [version.pk for version in {plan.fleet, *plan.special.values()} if version]
        PolicyVersion.objects.filter(pk__in=used, assigned_at__isnull=True).update(
            assigned_at=timezone.now()
        )
    return assigned


def _wrong(
    rollout: Rollout, plan: Wanted, *, take_over: bool | Collection[str]
) -> list[tuple[PolicyVersion, list[str]]]:
    """Return the versions that robots lack, each with the names of those robots."""
    rows = list(Robot.objects.filter(enabled=True, pinned_at__isnull=True).order_by("pk"))
    known = PolicyVersion.objects.filter(sha256__in={robot.assigned_sha256 for robot in rows})
    # By number and content: two learners may have imported the same base under their own numbers.
    own = set(known.filter(learner=rollout.learner).values_list("number", "sha256"))
    # Whoever holds back its versions does not lose its robots to a learner that does not.
    held = set(
        known.exclude(learner=rollout.learner)
        .filter(learner__rollout__mode__in=(Rollout.Mode.CANARY, Rollout.Mode.MANUAL))
        .values_list("number", "sha256")
    )
    lacking: dict[int, tuple[PolicyVersion, list[str]]] = {}
    for robot in rows:
        version = plan.version_for(robot.name)
        has = (robot.assigned_number, robot.assigned_sha256)
        if version is None or has == (version.number, version.sha256):
            continue
        follows = robot.assigned_number is None or has in own
        newer = robot.assigned_number is None or robot.assigned_number < version.number
        takes = rollout.mode == Rollout.Mode.AUTOMATIC and newer
        told = take_over if isinstance(take_over, bool) else robot.name in take_over
        if not told and (has in held or not (follows or takes)):
            continue
        lacking.setdefault(version.pk, (version, []))[1].append(robot.name)
    return list(lacking.values())


def note_change(
    kind: str,
    what: str,
    *,
    learner: Learner | None,
    version: PolicyVersion | None = None,
    operator: Operator | None = None,
    reason: str = "",
) -> PolicyChange:
    """Write down who changed what robots run; only inside the transaction that changes it."""
    return PolicyChange.objects.create(
        kind=kind,
        what=what[:1000],
        learner=learner,
        version=version,
        operator=operator,
        reason=reason[:500],
    )
