"""Saved views: each person's own names for what the wall shows."""

from django.core.exceptions import ValidationError
from django.db import transaction

from fleet.exceptions import Refusal
from fleet.models import Operator, SavedView

# A person's views; enough for every shift and site of theirs.
MOST = 30


def save_view(*, operator: Operator, name: str, query: str) -> SavedView:
    """Keep `query` under `name`; a view of that name is replaced. Locks the operator's row.

    Raises:
        Refusal: The name or the query is not possible, or there are `MOST` views already.
    """
    with transaction.atomic():
        Operator.objects.select_for_update().get(pk=operator.pk)
        view = operator.saved_views.filter(name=name).first()
        if view is None:
            if operator.saved_views.count() >= MOST:
                raise Refusal(f"you have {MOST} saved views; remove one first")
            view = SavedView(operator=operator, name=name)
        view.query = query
        try:
            view.full_clean(validate_unique=False)
        except ValidationError as error:
            raise Refusal(f"this view cannot be saved: {' '.join(error.messages)}") from None
        view.save()
    return view


def remove_view(*, operator: Operator, name: str) -> None:
    """Forget a view; one that is not there is forgotten already."""
    operator.saved_views.filter(name=name).delete()
