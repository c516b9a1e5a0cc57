"""What leads do with versions: roll out, roll back, pin, choose a mode, note and tag."""

import re
from collections.abc import Sequence

from django.core.exceptions import ValidationError
from django.db import transaction

from fleet.models import Operator
from fleet.services.policies import pin_robots, unpin_robots
from learning.exceptions import Unprocessable
from learning.models import Learner, PolicyChange, PolicyVersion, Rollout, VersionTag
from learning.selectors.rollouts import (
    chosen_robots,
    fleet_version,
    named_robots,
    running_canary,
)
from learning.services.assignments import assign_wanted, lock_rollout, note_change, policy_ref
from learning.services.canaries import TERMS, begin_next, drop_canary

MAX_TAGS = 10
MAX_NOTES = 2000
_TAG = re.compile(r"[a-z0-9][-a-z0-9_]{0,31}")


def roll_out(
    version: PolicyVersion,
    *,
    operator: Operator,
    share: int | None = None,
    robots: Sequence[str] | None = None,
    reason: str = "",
) -> list[str]:
    """Make robots run `version` and let no publish undo that; return the names that are told.

    Afterwards the learner is manual: what it publishes waits for a lead. For all robots the version
    is the fleet's; for a share or named robots it is theirs, and the others run on with the fleet's
    version. A running canary of the learner ends. Pinned robots are passed by. Called twice, the
    second call tells nobody. Locks the rollout, then robots; announces on commit.

    Args:
        version: Published; of any age.
        operator: Who says so.
        share: Percent of the enabled robots; None for all.
        robots: Names, in place of a share.
        reason: Why, for the record.

    Raises:
        Unprocessable: The version did not pass its gate, or nobody is chosen.
    """
    names = chosen_robots(version.learner, share=share, robots=robots)
    return _roll(version, names, PolicyChange.Kind.ROLLED_OUT, operator=operator, reason=reason)


def roll_back(
    version: PolicyVersion,
    *,
    operator: Operator,
    reason: str = "",
    kind: str = PolicyChange.Kind.ROLLED_BACK,
    note: str = "",
) -> list[str]:
    """Put every robot back to `version`; as `roll_out` to all.

    It is recorded as `kind`, with a note of what else was done.
    """
    return _roll(version, None, kind, operator=operator, reason=reason, note=note)


def _roll(
    version: PolicyVersion,
    names: list[str] | None,
    kind: str,
    *,
    operator: Operator,
    reason: str,
    note: str = "",
) -> list[str]:
    if version.state != PolicyVersion.State.PUBLISHED:
        raise Unprocessable(f"version {version.number} did not pass its gate: it cannot be run")
    with transaction.atomic():
        rollout = lock_rollout(version.learner)
        before, mode = fleet_version(rollout), rollout.mode
        canary = running_canary(version.learner)
        if canary is not None:
            drop_canary(
                canary, f"ended: v{version.number} was rolled out by hand", operator=operator
            )
        rollout.mode = Rollout.Mode.MANUAL
        if names is None:
            rollout.target, rollout.part, rollout.part_robots = version, None, []
        else:
            rollout.target, rollout.part, rollout.part_robots = before, version, names
        rollout.save()
        whom = "every robot" if names is None else ", ".join(names)
        from_words = f" from v{before.number}" if before is not None and names is None else ""
        note_change(
            kind,
            f"{whom}{from_words} to v{version.number}"
            + (f"; the learner is manual now, it was {mode}" if mode != rollout.mode else "")
            + (f"; {note}" if note else ""),
            learner=version.learner,
            version=version,
            operator=operator,
            reason=reason,
        )
        told = assign_wanted(version.learner, take_over=True if names is None else names)
    return sorted(name for names in told.values() for name in names)


def set_mode(
    learner: Learner, mode: str, *, operator: Operator, reason: str = "", **terms: float
) -> Rollout:
    """Choose what a publish does, and on which terms canaries run.

    Afterwards robots run the newest version (automatic), or go on with the fleet's: then newer
    ones go through canaries, or wait. A running canary goes on only in the mode canary. Locks the
    rollout. Raises Unprocessable for an unknown mode and for terms out of range.
    """
    if mode not in Rollout.Mode.values:
        raise Unprocessable(f"{mode!r} is none of: {', '.join(Rollout.Mode.values)}")
    with transaction.atomic():
        rollout = lock_rollout(learner)
        before = rollout.mode
        if mode == Rollout.Mode.AUTOMATIC:
            rollout.target = None
        elif before == Rollout.Mode.AUTOMATIC:
            rollout.target = fleet_version(rollout)
        if mode != Rollout.Mode.MANUAL:
            rollout.part, rollout.part_robots = None, []
        canary = running_canary(learner)
        if canary is not None and mode != Rollout.Mode.CANARY:
            drop_canary(canary, f"ended: the mode is {mode} now", operator=operator)
        rollout.mode = mode
        for name in TERMS:
            setattr(rollout, name, terms.get(name, getattr(rollout, name)))
        try:
            rollout.full_clean()
        except ValidationError as error:
            field, texts = next(iter(error.message_dict.items()))
            raise Unprocessable(f"{field.replace('_', ' ')}: {texts[0]}") from None
        rollout.save()
        note_change(
            PolicyChange.Kind.MODE,
            f"{learner.name} from {before} to {mode}",
            learner=learner,
            operator=operator,
            reason=reason,
        )
        assign_wanted(learner)
    begin_next(learner)
    return rollout


def pin(
    version: PolicyVersion, *, robots: Sequence[str], operator: Operator, reason: str = ""
) -> list[str]:
    """Keep robots at `version` whatever is published or rolled out, until they are unpinned.

    Returns their names. Called again, the newer pin holds. Locks the robots. Raises Unprocessable
    for unknown robots and for a version that did not pass its gate.
    """
    if version.state != PolicyVersion.State.PUBLISHED:
        raise Unprocessable(f"version {version.number} did not pass its gate: it cannot be run")
    names = named_robots(robots)
    with transaction.atomic():
        lock_rollout(version.learner)
        pinned = pin_robots(names, ref=policy_ref(version), by=operator.name, reason=reason)
        note_change(
            PolicyChange.Kind.PINNED,
            f"{', '.join(pinned)} to v{version.number}",
            learner=version.learner,
            version=version,
            operator=operator,
            reason=reason,
        )
    return pinned


def unpin(*, robots: Sequence[str], operator: Operator, reason: str = "") -> list[str]:
    """Let robots follow their learner again, at once; return the names of those that were pinned.

    Called twice, the second call changes nothing. Raises Unprocessable for unknown robots.
    """
    names = named_robots(robots)
    with transaction.atomic():
        unpinned = unpin_robots(names)
        if unpinned:
            note_change(
                PolicyChange.Kind.UNPINNED,
                ", ".join(unpinned),
                learner=None,
                operator=operator,
                reason=reason,
            )
    for learner in Learner.objects.order_by("pk"):
        assign_wanted(learner)
    return unpinned


def describe(version: PolicyVersion, *, notes: str, tags: Sequence[str]) -> PolicyVersion:
    """Replace what people wrote about a version: its notes and its tags.

    Raises Unprocessable: too long, too many, or a tag that is no lower-case word.
    """
    notes, wanted = notes.strip(), sorted(set(tags))
    if len(notes) > MAX_NOTES:
        raise Unprocessable(f"notes have at most {MAX_NOTES} characters, not {len(notes)}")
    if len(wanted) > MAX_TAGS:
        raise Unprocessable(f"a version has at most {MAX_TAGS} tags, not {len(wanted)}")
    if wrong := [tag for tag in wanted if not _TAG.fullmatch(tag)]:
        raise Unprocessable(
            f"{wrong[0][:40]!r} is no tag: lower-case letters, digits, - and _, at most 32"
        )
    with transaction.atomic():
        version = PolicyVersion.objects.select_for_update().get(pk=version.pk)
        version.notes = notes
        version.save(update_fields=["notes"])
        version.tags.exclude(name__in=wanted).delete()
        VersionTag.objects.bulk_create(
            [VersionTag(version=version, name=name) for name in wanted], ignore_conflicts=True
        )
    return version
