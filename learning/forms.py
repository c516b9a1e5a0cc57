"""Forms of the learning app: text in, values out, and what is wrong in words."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Model
from django.utils import timezone

from fleet.models import Robot, Task
from learning.exceptions import NotFound, Unprocessable
from learning.models import PolicyVersion
from learning.models.corrections import Mark
from learning.models.episodes import Purpose
from learning.models.evaluations import MAX_TRIALS_PER_TASK
from learning.models.labels import Judgement
from learning.selectors import dashboards, search
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


class NamedField(forms.CharField):
    """The name of a row, as addresses carry it."""

    def __init__(self, model: type[Model], *, label: str) -> None:
        """Look for the name among the rows of `model`."""
        super().__init__(label=label, max_length=64, required=False)
        self.model = model

    def clean(self, value: Any) -> Model | None:
        """Return the row, or None for an empty field."""
        text = super().clean(value)
        row = self.model.objects.filter(name=text).first() if text else None
        if text and row is None:
            raise forms.ValidationError(f"No {self.label.lower()} is named “{text}”.")
        return row


class DayField(forms.DateField):
    """A calendar day that the database can hold."""

    def __init__(self, *, label: str) -> None:
        """Take days as browsers send them."""
        super().__init__(
            label=label,
            required=False,
            input_formats=["%Y-%m-%d"],
            error_messages={"invalid": "Write a day as year-month-day, such as 2026-11-22."},
        )

    def clean(self, value: Any) -> datetime | None:
        """Return the beginning of the day in the server's time zone, or None."""
        day = super().clean(value)
        if day is None:
            return None
        if not 1970 <= day.year <= 2200:
            raise forms.ValidationError("Choose a day between the years 1970 and 2200.")
        return timezone.make_aware(datetime.combine(day, time.min))


def _one_of(label: str, choices: list[tuple[str, str]], *, empty: bool = True) -> forms.ChoiceField:
    words = ", ".join(value for value, _ in choices)
    return forms.ChoiceField(
        label=label,
        choices=[("", "any"), *choices] if empty else choices,
        required=False,
        error_messages={"invalid_choice": f"“%(value)s” is none of: {words}."},
    )


def _number(label: str) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=0, max_value=2**31 - 1, required=False)


class SearchForm(forms.Form):
    """The filters, the order and the place in the list that an address of the browser carries."""

    q = forms.CharField(label="Search", max_length=200, required=False)
    task = NamedField(Task, label="Task")
    robot = NamedField(Robot, label="Robot")
    purpose = _one_of("Purpose", Purpose.choices)
    outcome = _one_of(
        "Outcome",
        [*Judgement.choices, (search.CUT_SHORT, "Cut short"), (search.OPEN, "Still uploading")],
    )
    corrected = _one_of("Corrected", [("1", "by an operator"), ("0", "not at all")])
    marked = _one_of(
        "Marked",
        [
            (Mark.CORRECTION, "correction"),
            (Mark.RECOVERY, "recovery"),
            (search.DISCARDED, "correction discarded"),
        ],
    )
    labelled = _one_of("Labelled", [("1", "by a person"), ("0", "not yet")])
    by = forms.CharField(label="Corrected or labelled by", max_length=150, required=False)
    policy_from = _number("Policy from")
    policy_to = _number("Policy to")
    made = VersionField(label="Made by version", max_length=80, required=False)
    trained = VersionField(label="Trained version", max_length=80, required=False)
    since = DayField(label="From day")
    until = DayField(label="To day")
    sort = _one_of(
        "Order", [(name, order.words) for name, order in search.ORDERS.items()], empty=False
    )
    after = forms.CharField(label="Place", max_length=120, required=False)
    before = forms.CharField(label="Place", max_length=120, required=False)

    def clean(self) -> dict[str, Any]:
        """Check what spans two fields, and read the place in the chosen order."""
        said = super().clean()
        low, high = said.get("policy_from"), said.get("policy_to")
        if low is not None and high is not None and low > high:
            self.add_error("policy_to", f"There is no policy between {low} and {high}.")
        first, last = said.get("since"), said.get("until")
        if first and last and first > last:
            self.add_error("until", "The last day is before the first.")
        for side in ("after", "before"):
            if said.get(side):
                try:
                    said[side] = search.cursor_from(said[side], said.get("sort") or "newest")
                except Unprocessable as error:
                    self.add_error(side, f"{str(error)[:1].upper()}{str(error)[1:]}.")
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
            started_before=said["until"] + timedelta(days=1) if said["until"] else None,
            order=said["sort"] or "newest",
        )


class DashboardForm(forms.Form):
    """What dashboards are about, as their address carries it."""

    RANGES = {
        "day": ("last 24 hours", timedelta(days=1)),
        "week": ("last 7 days", timedelta(days=7)),
        "month": ("last 30 days", timedelta(days=30)),
        "year": ("last 365 days", timedelta(days=365)),
    }

    range = _one_of("Range", [(name, words) for name, (words, _) in RANGES.items()], empty=False)
    since = DayField(label="From day")
    until = DayField(label="To day")
    axis = _one_of("By", [("time", "time"), ("version", "policy version")], empty=False)
    split = _one_of("Split by", list(dashboards.SPLITS.items()), empty=False)
    task = NamedField(Task, label="Task")
    robot = NamedField(Robot, label="Robot")
    site = forms.CharField(label="Site", max_length=64, required=False)

    def clean(self) -> dict[str, Any]:
        """Check what spans two fields."""
        said = super().clean()
        first, last = said.get("since"), said.get("until")
        if first and last and first > last:
            self.add_error("until", "The last day is before the first.")
        return said

    def frame(self, now: datetime) -> dashboards.Frame:
        """Return what is looked at; the form must be valid. Named days win over the range."""
        said = self.cleaned_data
        until = now + timedelta(hours=1)
        if said["until"]:
            until = said["until"] + timedelta(days=1)
        since = said["since"] or until - self.RANGES[said["range"] or "day"][1]
        hourly = until - since <= dashboards.HOURLY
        begin = {"minute": 0, "second": 0, "microsecond": 0} | ({} if hourly else {"hour": 0})
        return dashboards.Frame(
            since=since.astimezone(UTC).replace(**begin),
            until=until.astimezone(UTC),
            task=said["task"],
            robot=said["robot"],
            site=said["site"],
            split=said["split"],
        )


def _either(text: str) -> bool | None:
    return None if text == "" else text == "1"
