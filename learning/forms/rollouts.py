"""What a lead does with versions: who runs which, how a publish goes out, and what is noted."""

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from learning.forms.fields import RobotsField, VersionField


class TermsForm(forms.Form):
    """The terms of a canary; those that are not said are the learner's."""

    share = forms.IntegerField(
        label=_("Percent of robots"), min_value=1, max_value=100, required=False
    )
    alpha = forms.FloatField(
        label=_("Wrong claims at most (alpha)"), min_value=0.0001, max_value=0.5, required=False
    )
    margin = forms.FloatField(label=_("Margin"), min_value=0.01, max_value=0.9, required=False)
    episodes = forms.IntegerField(
        label=_("Episodes an arm"), min_value=2, max_value=100_000, required=False
    )
    limit_min = forms.IntegerField(
        label=_("Time limit in minutes"), min_value=1, max_value=100_000, required=False
    )

    @property
    def terms(self) -> dict[str, Any]:
        """The terms that were said; the form must be valid."""
        said = self.cleaned_data
        return {name: said[name] for name in TermsForm.base_fields if said.get(name) is not None}


class ChangeForm(TermsForm):
    """What a lead wants to do with a version, and with which robots."""

    ACTS = (("rollout", _("Roll out")), ("canary", _("Canary")), ("pin", _("Pin")))
    WHOM = (("all", _("every robot")), ("share", _("a share")), ("robots", _("named robots")))

    act = forms.ChoiceField(choices=ACTS)
    whom = forms.ChoiceField(choices=WHOM)
    robots = RobotsField()
    incumbent = VersionField(label=_("Compared with"), max_length=80, required=False)
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)

    def clean(self) -> dict[str, Any]:
        """Check that whom and what fit together."""
        said = super().clean()
        act, whom = said.get("act"), said.get("whom")
        if whom == "robots" and not said.get("robots") and "robots" not in self.errors:
            self.add_error("robots", _("Tick at least one robot."))
        if whom == "share" and said.get("share") is None and "share" not in self.errors:
            self.add_error("share", _("Say how many percent."))
        if act == "canary" and whom == "all":
            self.add_error("whom", _("A canary leaves some robots to the other version."))
        if act == "pin" and whom not in ("robots", None):
            self.add_error("whom", _("A pin is for named robots."))
        return said

    @property
    def names(self) -> list[str]:
        """The robots that are named; the form must be valid."""
        return [robot.name for robot in self.cleaned_data["robots"]]


class ModeForm(TermsForm):
    """What a learner's publishes do, and the terms of its canaries."""

    mode = forms.ChoiceField(choices=[(mode, mode) for mode in ("automatic", "canary", "manual")])
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)


class DescribeForm(forms.Form):
    """What people write about a version."""

    notes = forms.CharField(max_length=2000, required=False, widget=forms.Textarea)
    tags = forms.CharField(max_length=400, required=False)

    def clean_tags(self) -> list[str]:
        """Return the words between commas and spaces."""
        return re.findall(r"[^\s,]+", self.cleaned_data["tags"])
