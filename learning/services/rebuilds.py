"""Rebuilding from before bad data: exclude it, and go on from weights that never saw it."""

from dataclasses import dataclass

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from fleet.models import Operator
from learning.exceptions import Unprocessable
from learning.models import Branch, Exclusion, Learner, PolicyChange, PolicyVersion, Round
from learning.selectors.rollouts import fleet_version, rollout_of
from learning.selectors.taint import Suspect, suspected, trace
from learning.services.assignments import lock_rollout
from learning.services.rollouts import roll_back

# Episodes of one rebuild: more than this is a whole deployment, or a slip.
MAX_EXCLUDED = 100_000


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild did."""

    origin: PolicyVersion
    # Episodes that were not excluded before.
    excluded: int
    # Robots that are told to run `origin`; empty where no version had learned from them.
    robots: tuple[str, ...]


def rebuild(learner: Learner, suspect: Suspect, *, operator: Operator, reason: str = "") -> Rebuilt:
    """Exclude suspected episodes and rebuild a learner from the newest version that has none.

    Afterwards no buffer of any learner takes these episodes, warm learners read theirs anew, and
    robots of this one run the clean version, which no publish undoes. Its round under way, if any,
    is lost; the next one begins a branch with that version's weights, without the checkpoint. Where
    it never took a step on one of them, robots and checkpoint stay as they are. Called twice, the
    second call finds nothing to undo. Locks the rollout, then learners, then robots.

    Raises:
        Unprocessable: Nothing is named, no or too many episodes are meant, or every version
            learned from them.
    """
    with transaction.atomic():
        # Before the learners: whoever holds a rollout may be writing rows that point to them.
        lock_rollout(learner)
        learners = {row.pk: row for row in Learner.objects.select_for_update().order_by("pk")}
        learner = learners[learner.pk]
        episodes = suspected(suspect)
        ids = list(episodes.order_by().values_list("pk", flat=True)[: MAX_EXCLUDED + 1])
        if not ids:
            raise Unprocessable("no episode is meant: nothing was changed")
        if len(ids) > MAX_EXCLUDED:
            raise Unprocessable(f"that is more than {MAX_EXCLUDED} episodes")
        found = trace(learner, episodes)
        if found.clean is None:
            raise Unprocessable(
                f"every version of {learner.name} learned from them: import a policy to go on from"
            )
        before = Exclusion.objects.count()
        Exclusion.objects.bulk_create(
            [Exclusion(episode_id=pk, operator=operator, reason=reason[:500]) for pk in ids],
            ignore_conflicts=True,
            batch_size=500,
        )
        excluded = Exclusion.objects.count() - before
        if excluded:
            # Rounds under way hold these episodes in memory: they lose their leases, and the next
            # ones fill their buffers anew.
            _interrupt(list(learners))
        robots: list[str] = []
        if found.in_force:
            _branch(learner, found.clean)
        running = fleet_version(rollout_of(learner))
        if found.in_force or running in found.versions:
            robots = roll_back(
                found.clean,
                kind=PolicyChange.Kind.REBUILT,
                operator=operator,
                reason=reason,
                note=f"{len(ids)} episodes are excluded",
            )
    return Rebuilt(found.clean, excluded, tuple(robots))


def _interrupt(learner_ids: list[int]) -> None:
    now = timezone.now()
    Learner.objects.filter(pk__in=learner_ids).update(
        lease_epoch=F("lease_epoch") + 1, lease_holder="", lease_expires_at=None, changed_at=now
    )
    Round.objects.filter(learner_id__in=learner_ids, state=Round.State.RUNNING).update(
        state=Round.State.LOST, ended_at=now, reason="episodes were excluded"
    )


def _branch(learner: Learner, origin: PolicyVersion) -> None:
    last = learner.branches.order_by("-number").first()
    number = (last.number if last is not None else 0) + 1
    Branch.objects.create(learner=learner, number=number, origin=origin)
    Learner.objects.filter(pk=learner.pk).update(
        branch=number,
        checkpoint_sha256="",
        checkpoint_step=origin.step,
        step=origin.step,
        trained_seq=origin.trained_seq,
        changed_at=timezone.now(),
    )
