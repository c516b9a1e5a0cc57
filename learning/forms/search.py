"""What an address of the episode browser says."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from fleet.models import Robot, Task
from fleet.phrases import sentence
from learning.exceptions import Unprocessable
from learning.forms.fields import DaysForm, NamedField, VersionField, number, one_of
from learning.models.corrections import Mark
from learning.models.episodes import Purpose
from learning.models.labels import Judgement
from learning.selectors import search


class SearchForm(DaysForm):
    """The filters, the order and the place in the list that an address of the browser carries."""

    # What an address and the list of active filters say, in this order; then the days and the rest.
    field_order = (
        "q", "task", "robot", "purpose", "outcome", "corrected", "marked", "labelled", "by",
        "policy_from", "policy_to", "made", "trained",
    )  # fmt: skip
    q = forms.CharField(label=_("Search"), max_length=200, required=False)
    task = NamedField(Task, label=_("Task"))
    robot = NamedField(Robot, label=_("Robot"))
    purpose = one_of(_("Purpose"), Purpose.choices)
    outcome = one_of(
        _("Outcome"),
        [
            *Judgement.choices,
            (search.CUT_SHORT, _("Cut short")),
            (search.OPEN, _("Still uploading")),
        ],
    )
    corrected = one_of(_("Corrected"), [("1", _("by an operator")), ("0", _("not at all"))])
    marked = one_of(
        _("Marked"),
        [
            (Mark.CORRECTION, _("correction")),
            (Mark.RECOVERY, _("recovery")),
            (search.DISCARDED, _("correction discarded")),
        ],
    )
    labelled = one_of(_("Labelled"), [("1", _("by a person")), ("0", _("not yet"))])
    by = forms.CharField(label=_("Corrected or labelled by"), max_length=150, required=False)
    policy_from = number(_("Policy from"))
    policy_to = number(_("Policy to"))
    made = VersionField(label=_("Made by version"), max_length=80, required=False)
    trained = VersionField(label=_("Trained version"), max_length=80, required=False)
    sort = one_of(
        _("Order"), [(name, order.words) for name, order in search.ORDERS.items()], empty=False
    )
    after = forms.CharField(label=_("Place"), max_length=120, required=False)
    before = forms.CharField(label=_("Place"), max_length=120, required=False)

    def clean(self) -> dict[str, Any]:
        """Check what spans two fields, and read the place in the chosen order."""
        said = super().clean()
        low, high = said.get("policy_from"), said.get("policy_to")
        if low is not None and high is not None and low > high:
            words = _("There is no policy between %(low)s and %(high)s.")
            self.add_error("policy_to", words % {"low": low, "high": high})
        for side in ("after", "before"):
            if said.get(side):
                try:
                    said[side] = search.cursor_from(said[side], said.get("sort") or "newest")
                except Unprocessable as error:
                    self.add_error(side, sentence(error))
        return said

    def search(self) -> search.Search:
        """Return what is looked for; the form must be valid."""
        said = self.cleaned_data
        return search.Search(
            text=said["q"],
            task=said["task"],
            robot=said["robot"],
            purpose=said["purpose"],
            outcome=said["outcome"],
            corrected=_either(said["corrected"]),
            marked=said["marked"],
            labelled=_either(said["labelled"]),
            operator=said["by"],
            policy_from=said["policy_from"],
            policy_to=said["policy_to"],
            made_by=said["made"],
            taught=said["trained"],
            started_from=said["since"],
            started_before=self.end,
            order=said["sort"] or "newest",
        )


def _either(text: str) -> bool | None:
    return None if text == "" else text == "1"
