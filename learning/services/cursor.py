"""The buffers' cursor: the numbers of closed episodes, and the one lock that orders counting.

Whoever closes an episode, reviews a correction or counts for the dashboards holds this row until
commit: numbers become visible in their own order, and nobody waits in a circle, because it is taken
after the locks of episodes.
"""

from django.db.models import F

from learning.models import ClosedCursor


def hold_cursor() -> None:
    """Take the cursor's lock until the transaction ends. Safe to repeat."""
    _add(0)


def next_seq() -> int:
    """Return the next `closed_seq`, with the lock held until the transaction ends."""
    _add(1)
    return ClosedCursor.objects.get(pk=1).value


def _add(amount: int) -> None:
    # An update, not a select: it locks on every database.
    ClosedCursor.objects.get_or_create(pk=1)
    ClosedCursor.objects.filter(pk=1).update(value=F("value") + amount)
