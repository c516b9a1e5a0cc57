"""What a person declares before an evaluation."""

from django import forms
from django.utils.translation import gettext_lazy as _

from fleet.models import Task
from learning.forms.fields import VersionField
from learning.models.evaluations import MAX_TRIALS_PER_TASK


class EvaluationForm(forms.Form):
    """What a person declares before an evaluation."""

    first = VersionField(label=_("Version"), max_length=80)
    second = VersionField(label=_("Compared with"), max_length=80, required=False)
    tasks = forms.ModelMultipleChoiceField(
        queryset=Task.objects.order_by("name"),
        to_field_name="name",
        widget=forms.CheckboxSelectMultiple,
    )
    trials_per_task = forms.IntegerField(
        label=_("Trials per task"), initial=20, min_value=1, max_value=MAX_TRIALS_PER_TASK
    )
    timeout_ticks = forms.IntegerField(
        label=_("Timeout in ticks"), min_value=1, max_value=1_000_000, required=False
    )
    max_robots = forms.IntegerField(
        label=_("Robots at most"), min_value=1, max_value=1000, required=False
    )
    target = forms.FloatField(label=_("Target success"), min_value=0, max_value=1, required=False)
    stop_when_decided = forms.BooleanField(label=_("Stop when decided"), required=False)
