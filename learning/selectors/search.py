"""Search over episodes: filters, orders, and pages that stay put while new episodes arrive.

Pages are cut by the last row's own values (a keyset), never by an offset: an episode that arrives
while somebody reads shifts nothing, and page 1,000 costs what page 1 costs.

A search begins with up to a thousand of the episodes it finds, in no order, by whatever index
serves its filters best. That is the count; and where they are all there are, they are put in order
here. More than that are frequent enough for walking the order's own index: a database that is to do
both at once walks it for three episodes, too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Max, Min, Q, QuerySet
from django.db.models.expressions import RawSQL

from fleet.models import Robot, Task
from learning.exceptions import Unprocessable
from learning.models import Episode, EpisodeUse, Intervention, Label, PolicyVersion
from learning.selectors.branches import uses_behind

PAGE = 50
# Rows of an export that are in memory at once.
CHUNK = 1000
# Beyond this many nobody reads a count, and counting would cost more than the page.
COUNTED = 1000
# Beginnings of a uid, with or without its dashes. Shorter ones are words or numbers; from 8 on,
# which lists show, nobody means anything else, and the uid's index is enough.
_UID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
_UID_SHOWN = 8
_NOT_SHOWN = ("link", "manifest_sha256", "trial", "seed")

# Choices of the outcome filter beside the outcomes themselves.
OPEN, CUT_SHORT = "open", "cut"
# Choice of the filter for marks beside the marks themselves.
DISCARDED = "discarded"


@dataclass(frozen=True, slots=True)
class Order:
    """An order of episodes: a field with an index, then the uid, so that no two rows tie."""

    field: str
    descending: bool
    words: str


ORDERS = {
    "newest": Order("started_at", descending=True, words="newest first"),
    "oldest": Order("started_at", descending=False, words="oldest first"),
    "longest": Order("steps", descending=True, words="most steps first"),
    "shortest": Order("steps", descending=False, words="fewest steps first"),
    "corrected": Order("human_steps", descending=True, words="most corrected first"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is looked for; an empty field does not filter."""

    # Part of the instruction, of who judged, of a label's note, or the beginning of a uid.
    text: str = ""
    task: Task | None = None
    robot: Robot | None = None
    purpose: str = ""
    # An Outcome in force, or OPEN or CUT_SHORT.
    outcome: str = ""
    corrected: bool | None = None
    # What its corrections are marked as: a Mark that counts, or DISCARDED.
    marked: str = ""
    labelled: bool | None = None
    # Name of somebody who corrected or labelled it.
    operator: str = ""
    # Policy numbers, both included.
    policy_from: int | None = None
    policy_to: int | None = None
    # The version it started with, and a version that learned from it.
    made_by: PolicyVersion | None = None
    taught: PolicyVersion | None = None
    started_from: datetime | None = None
    started_before: datetime | None = None
    order: str = "newest"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place between two rows: beside the episode `uid`, whose ordering field is `value`."""

    value: datetime | int
    uid: UUID

    def __str__(self) -> str:
        value = self.value.isoformat() if isinstance(self.value, datetime) else self.value
        return f"{value}~{self.uid}"


def cursor_from(text: str, order: str) -> Cursor:
    """Read a cursor of `order` from an address. Raises Unprocessable."""
    value, _, uid = text.partition("~")
    try:
        if ORDERS[order].field != "started_at":
            steps = int(value)
            if not 0 <= steps < 2**31:
                raise ValueError(f"{steps} is out of range")
            return Cursor(steps, UUID(uid))
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        return Cursor(at, UUID(uid))
    except (ValueError, OverflowError):
        raise Unprocessable("this address names no place in the list") from None


@dataclass(frozen=True, slots=True)
class Found:
    """One page of a search, and the cursors of its neighbours; None where there is none."""

    episodes: list[Episode]
    newer: Cursor | None
    older: Cursor | None
    # How many the search finds in all, and whether there are more than that.
    count: int
    more: bool


def matching(search: Search) -> QuerySet[Episode]:
    """Return the episodes of a search, in no order."""
    found = Episode.objects.all()
    if search.task is not None:
        found = found.filter(task=search.task)
    if search.robot is not None:
        found = found.filter(robot=search.robot)
    if search.purpose:
        found = found.filter(purpose=search.purpose)
    if search.outcome == OPEN:
        found = found.filter(state=Episode.State.OPEN)
    elif search.outcome == CUT_SHORT:
        found = found.filter(state=Episode.State.CLOSED, complete=False)
    elif search.outcome:
        found = found.filter(outcome_in_force=search.outcome)
    if search.corrected is not None:
        found = found.filter(human_steps__gt=0) if search.corrected else found.filter(human_steps=0)
    if search.marked:
        spans = Intervention.objects.order_by()
        spans = (
            spans.filter(discarded=True)
            if search.marked == DISCARDED
            else spans.filter(mark=search.marked, discarded=False)
        )
        found = found.filter(_among(spans.values("episode_id")))
    if search.labelled is not None:
        found = (
            found.exclude(judged_outcome="") if search.labelled else found.filter(judged_outcome="")
        )
    if search.operator:
        found = found.filter(_touched_by(search.operator))
    if search.policy_from is not None:
        found = found.filter(policy_number__gte=search.policy_from)
    if search.policy_to is not None:
        found = found.filter(policy_number__lte=search.policy_to)
    if search.made_by is not None:
        found = found.filter(_made_by(search.made_by))
    if search.taught is not None:
        found = found.filter(_among(used_by(search.taught).order_by().values("episode_id")))
    if search.started_from is not None:
        found = found.filter(started_at__gte=search.started_from)
    if search.started_before is not None:
        found = found.filter(started_at__lt=search.started_before)
    if search.text:
        said = _says(search.text)
        found = found.filter(said if _is_uid(search.text) else said | _noted(search.text))
    return found


def made_by(version: PolicyVersion) -> QuerySet[Episode]:
    """Return the episodes that started with a version."""
    return Episode.objects.filter(_made_by(version))


def used_by(version: PolicyVersion) -> QuerySet[EpisodeUse]:
    """Return the uses of episodes that a version learned from: up to its own gradient step.

    In the branch of its learner that it is of, and in what that goes on from. An episode that was
    used again after a rebuild has a use in each branch.
    """
    return EpisodeUse.objects.filter(uses_behind(version), learner_id=version.learner_id)


def find(
    search: Search, *, after: Cursor | None = None, before: Cursor | None = None, size: int = PAGE
) -> Found:
    """Return one page: the first, or the one after or before a cursor.

    Going back to where fewer than `size` rows are left gives the whole first page.
    """
    some = _some(search)

    def rows(beside: Cursor | None, *, forwards: bool = True) -> list[Episode]:
        order = ORDERS[search.order]
        if len(some) <= COUNTED:
            return _sorted(some, order, beside, size + 1, forwards=forwards)
        every = matching(search).filter(_when_versions_ran(search))
        as_a_set = bool(search.operator) or search.taught is not None
        return _walked(every, order, beside, size + 1, forwards=forwards, as_a_set=as_a_set)

    if before is not None:
        found = rows(before, forwards=False)[::-1]
        if len(found) > size:
            return _page(len(some), search.order, found[1:], newer=True, older=True)
        after = None
    found = rows(after)
    newer, older = after is not None, len(found) > size
    return _page(len(some), search.order, found[:size], newer=newer, older=older)


def chunks(search: Search, *, size: int = CHUNK) -> Iterator[list[Episode]]:
    """Return every episode of a search, in its order, `size` at a time."""
    every, order, after = matching(search), ORDERS[search.order], None
    while rows := _walked(every, order, after, size):
        yield rows
        after = cursor_of(rows[-1], search.order)


def cursor_of(episode: Episode, order: str) -> Cursor:
    """Return the place of an episode in an order."""
    return Cursor(getattr(episode, ORDERS[order].field), episode.uid)


def _page(some: int, order: str, rows: list[Episode], *, newer: bool, older: bool) -> Found:
    return Found(
        rows,
        cursor_of(rows[0], order) if newer and rows else None,
        cursor_of(rows[-1], order) if older and rows else None,
        min(some, COUNTED),
        more=some > COUNTED,
    )


def _some(search: Search) -> list[int]:
    """Return the keys of what a search finds: of all, or of one more than are counted."""
    parts = [matching(search)]
    if search.text and not _is_uid(search.text):
        # Two alternatives that have an index each have none together.
        rest = matching(replace(search, text=""))
        parts = [rest.filter(_says(search.text)), rest.filter(_noted(search.text))]
    keys: dict[int, None] = {}
    for part in parts:
        found = part.order_by().values_list("pk", flat=True)[: COUNTED + 1]
        keys.update(dict.fromkeys(found))
        if len(keys) > COUNTED:
            break
    return list(keys)


def _sorted(
    keys: list[int], order: Order, beside: Cursor | None, size: int, *, forwards: bool
) -> list[Episode]:
    among = Episode.objects.filter(pk__in=keys)
    descending = order.descending == forwards
    places = list(among.order_by().values_list(order.field, "uid", "pk"))
    if beside is not None:
        here = (beside.value, beside.uid)
        places = [p for p in places if (p[:2] < here if descending else p[:2] > here)]
    return _named([pk for _, _, pk in sorted(places, reverse=descending)[:size]])


def _walked(
    every: QuerySet[Episode],
    order: Order,
    beside: Cursor | None,
    size: int,
    *,
    forwards: bool = True,
    as_a_set: bool = False,
) -> list[Episode]:
    descending = order.descending == forwards
    sign, side = ("-", "lt") if descending else ("", "gt")
    if beside is not None:
        # The first condition alone is a range of the index; the second settles ties.
        every = every.filter(
            Q(**{f"{order.field}__{side}e": beside.value}),
            Q(**{f"{order.field}__{side}": beside.value}) | Q(**{f"uid__{side}": beside.uid}),
        )
    by = (f"{sign}{order.field}", f"{sign}uid")
    if as_a_set:
        # No index leads to them in order: what is sorted had better be small.
        return _named(list(every.order_by(*by).values_list("pk", flat=True)[:size]))
    return list(_whole(every).order_by(*by)[:size])


def _named(keys: list[int]) -> list[Episode]:
    rows = {row.pk: row for row in _whole(Episode.objects.filter(pk__in=keys))}
    return [rows[pk] for pk in keys if pk in rows]


def _whole(episodes: QuerySet[Episode]) -> QuerySet[Episode]:
    rows = episodes.select_related("robot", "task").defer(*_NOT_SHOWN)
    return rows.prefetch_related("interventions")


def _among(ids: QuerySet) -> Q:
    if connection.vendor != "postgresql":
        return Q(pk__in=ids)
    # PostgreSQL believes that what a version learned from lies evenly in time, walks the list from
    # its newest episode and asks of each: of 92,561 for an old version. An array it starts from.
    sql, params = ids.query.sql_with_params()
    condition = f"learning_episode.id = ANY(ARRAY({sql}))"
    return Q(RawSQL(condition, params, output_field=BooleanField()))


def _when_versions_ran(search: Search) -> Q:
    # Versions follow each other in time, of which no database knows: for old ones it would walk the
    # list from its newest episode. Grouped, or it would walk the list for the one maximum, too.
    end = {"newest": search.policy_to, "oldest": search.policy_from}.get(search.order)
    if end is None:
        return Q()
    only = Search(policy_from=search.policy_from, policy_to=search.policy_to)
    ran = matching(only).order_by().values("policy_number")
    if search.order == "newest":
        last = ran.annotate(last=Max("started_at")).values_list("last", flat=True)
        return Q(started_at__lte=max(last))
    first = ran.annotate(first=Min("started_at")).values_list("first", flat=True)
    return Q(started_at__gte=min(first))


def _made_by(version: PolicyVersion) -> Q:
    # The number has an index; the hash tells learners apart, where the robot named one.
    return Q(policy_number=version.number, policy_sha256__in=[version.sha256, ""])


def _touched_by(name: str) -> Q:
    # Databases take no order inside a union.
    corrected = Intervention.objects.filter(operator=name).order_by().values("episode_id")
    labels = Label.objects.filter(operator__user__username=name).order_by()
    labelled = labels.values("episode_id")
    return Q(pk__in=corrected.union(labelled, all=True))


def _is_uid(text: str) -> bool:
    digits = text.replace("-", "")
    return len(digits) >= _UID_SHOWN and bool(_UID_PREFIX.fullmatch(digits.lower()))


def _says(text: str) -> Q:
    digits = text.lower().replace("-", "")
    starts = Q()
    if _UID_PREFIX.fullmatch(digits):
        starts = Q(uid__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))
        if _is_uid(text):
            return starts
    return Q(instruction__icontains=text) | Q(judge__icontains=text) | starts


def _noted(text: str) -> Q:
    return Q(pk__in=Label.objects.filter(note__icontains=text).order_by().values("episode_id"))
