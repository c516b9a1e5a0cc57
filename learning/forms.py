"""Forms of the learning app: text in, values out, and what is wrong in words."""

import re
from typing import Any

from django import forms

from fleet.models import Task
from learning.exceptions import NotFound
from learning.models import PolicyVersion
from learning.models.evaluations import MAX_TRIALS_PER_TASK
from learning.selectors.evaluations import version_named

_VERSION = re.compile(r"\s*([-\w]{1,64})\s+v?(\d{1,9})\s*", re.ASCII)


class VersionField(forms.CharField):
    """A version as people write it: "hg-dagger v12"."""

    def clean(self, value: Any) -> PolicyVersion | None:
        """Return the version, or None for an empty optional field."""
        text = super().clean(value)
        if not text:
            return None
        match = _VERSION.fullmatch(text)
        if match is None:
            raise forms.ValidationError("Write a learner and a version, such as “hg-dagger v12”.")
        try:
            return version_named(match[1], int(match[2]))
        except NotFound:
            raise forms.ValidationError(f"{match[1]} has no version {match[2]}.") from None


class EvaluationForm(forms.Form):
    """What a person declares before an evaluation."""

    first = VersionField(label="Version", max_length=80)
    second = VersionField(label="Compared with", max_length=80, required=False)
    tasks = forms.ModelMultipleChoiceField(
        queryset=Task.objects.order_by("name"),
        to_field_name="name",
        widget=forms.CheckboxSelectMultiple,
    )
    trials_per_task = forms.IntegerField(
        label="Trials per task", initial=20, min_value=1, max_value=MAX_TRIALS_PER_TASK
    )
    timeout_ticks = forms.IntegerField(
        label="Timeout in ticks", min_value=1, max_value=1_000_000, required=False
    )
    max_robots = forms.IntegerField(
        label="Robots at most", min_value=1, max_value=1000, required=False
    )
    target = forms.FloatField(label="Target success", min_value=0, max_value=1, required=False)
    stop_when_decided = forms.BooleanField(label="Stop when decided", required=False)
