"""Handing out episodes at the labelling desk: a short claim keeps each with one page.

A page claims what it shows and what it has fetched ahead, says so again while it is visible, and
gives all up when it is left; what it does not renew expires. A second opinion is asked for once the
first is given, so one claim an episode is enough for both.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from fleet.models import Operator
from learning.models import DeskClaim, Episode
from learning.selectors.labelling import CANDIDATES, Waiting, claims, queue, waiting_for

# A page renews three times in this long; a computer that was closed keeps nothing for longer.
CLAIM_S = 60.0


@dataclass(frozen=True, slots=True)
class Seat:
    """What a page of the desk has to know."""

    # Claimed for the page, what teaches most first.
    episodes: list[Waiting]
    # Of what the page held: judged by others meanwhile, and now with another page.
    judged: list[UUID]
    taken: list[UUID]
    # How many wait for this labeller, those that are with others included.
    left: int
    # People with episodes in front of them, this one included.
    labellers: int


def sit(
    *,
    operator: Operator,
    page: UUID,
    hold: Collection[UUID] = (),
    without: Collection[UUID] = (),
    want: int = 0,
    now: datetime | None = None,
) -> Seat:
    """Renew the claims of a page, and claim up to `want` more episodes for it.

    True afterwards: the page has a claim of `CLAIM_S` on what it holds and is not in `judged` or
    `taken`, on what is returned, and on nothing else. When little is left everybody who labels gets
    a share. Called twice, the second call hands out more. Each claim is one compare-and-swap.

    Args:
        operator: Who sits there.
        page: The page's own name.
        hold: Episodes that it shows or has fetched ahead.
        without: Episodes that it does not want: judged a moment ago, or skipped.
        want: How many more, at most.
        now: For tests.
    """
    now = now or timezone.now()
    own = DeskClaim.objects.filter(page=page, operator=operator)
    ids = dict(Episode.objects.filter(uid__in=hold).values_list("uid", "pk"))
    own.exclude(episode_id__in=ids.values()).delete()
    own.filter(episode_id__in=ids.values()).update(expires_at=now + timedelta(seconds=CLAIM_S))
    wait = set(waiting_for(operator).filter(uid__in=hold).values_list("uid", flat=True))
    # Lost while the page was out of sight, perhaps to nobody.
    missing = wait - set(own.values_list("episode__uid", flat=True))
    taken = missing - _claim(operator, page, missing, now) if missing else set()
    episodes = _claim_next(operator, page, [*hold, *without], want, now) if want else []
    people = set(claims(now).values_list("operator", flat=True)) | {operator.pk}
    return Seat(
        episodes,
        judged=[uid for uid in hold if uid not in wait],
        taken=[uid for uid in hold if uid in taken],
        left=waiting_for(operator).exclude(uid__in=without).count(),
        labellers=len(people),
    )


def leave(*, operator: Operator, page: UUID) -> None:
    """Give up every claim of a page. Called twice: the second call changes nothing."""
    DeskClaim.objects.filter(page=page, operator=operator).delete()


def _claim_next(
    operator: Operator, page: UUID, without: Collection[UUID], want: int, now: datetime
) -> list[Waiting]:
    found = queue(operator, without=without, limit=CANDIDATES, page=page, now=now)
    people = set(claims(now).exclude(operator=operator).values_list("operator", flat=True))
    # The last ones are shared out: who fetches far ahead must not leave others with nothing.
    want = min(want, -(-len(found) // (len(people) + 1)))
    claimed: list[Waiting] = []
    while found and len(claimed) < want:
        batch, found = found[: want - len(claimed)], found[want - len(claimed) :]
        got = _claim(operator, page, {one.uid for one in batch}, now)
        claimed += [one for one in batch if one.uid in got]
        if len(got) < len(batch):
            elsewhere = set(claims(now, apart_from=page).values_list("episode__uid", flat=True))
            found = [one for one in found if one.uid not in elsewhere]
    return claimed


def _claim(operator: Operator, page: UUID, uids: Collection[UUID], now: datetime) -> set[UUID]:
    """Claim what is free of `uids`; return what this page has now."""
    ids = dict(Episode.objects.filter(uid__in=uids).values_list("uid", "pk"))
    until = now + timedelta(seconds=CLAIM_S)
    # Nobody waits for a lock here, and the two steps are two transactions: whoever labels holds the
    # episode's row and ends its claim.
    with transaction.atomic():
        void = DeskClaim.objects.filter(episode_id__in=ids.values(), expires_at__lte=now)
        keys = list(void.select_for_update(skip_locked=True).values_list("pk", flat=True))
        DeskClaim.objects.filter(pk__in=keys).update(page=page, operator=operator, expires_at=until)
    # In the order in which labels lock episodes.
    rows = [
        DeskClaim(episode_id=ids[uid], page=page, operator=operator, expires_at=until)
        for uid in sorted(ids)
    ]
    DeskClaim.objects.bulk_create(rows, ignore_conflicts=True)
    own = DeskClaim.objects.filter(page=page, operator=operator, episode_id__in=ids.values())
    mine = set(own.values_list("episode__uid", flat=True))
    # Judged between the moment it was found to wait and its claim.
    still = set(waiting_for(operator).filter(uid__in=mine).values_list("uid", flat=True))
    if mine != still:
        own.filter(episode_id__in=[ids[uid] for uid in mine - still]).delete()
    return still
