"""What data is thought to be bad."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from learning.forms.fields import DaysForm
from learning.selectors import taint


class SuspectForm(DaysForm):
    """What data is thought to be bad."""

    episode = forms.UUIDField(
        label=_("Episode"),
        required=False,
        error_messages={"invalid": _("That is no episode's uid.")},
    )
    operator = forms.CharField(label=_("Corrected by"), max_length=150, required=False)
    labeller = forms.CharField(label=_("Labelled by"), max_length=150, required=False)

    def clean(self) -> dict[str, Any]:
        """Check that something is named."""
        said = super().clean()
        if not self.errors and not any(said.values()):
            raise forms.ValidationError(_("Name an episode, an operator, a labeller or days."))
        return said

    def suspect(self) -> taint.Suspect:
        """Return what is meant; the form must be valid."""
        said = self.cleaned_data
        return taint.Suspect(
            episode=said["episode"],
            operator=said["operator"],
            labeller=said["labeller"],
            started_from=said["since"],
            started_before=self.end,
        )
