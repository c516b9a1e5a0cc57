"""Forms of the learning app: text in, values out, and what is wrong in words."""

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Model
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from fleet.models import Robot, Task
from fleet.phrases import sentence
from learning.exceptions import NotFound, Unprocessable
from learning.models import PolicyVersion
from learning.models.corrections import Mark
from learning.models.episodes import Purpose
from learning.models.evaluations import MAX_TRIALS_PER_TASK
from learning.models.labels import Judgement
from learning.selectors import dashboards, search, taint
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
            raise forms.ValidationError(
                _("Write a learner and a version, such as “hg-dagger v12”.")
            )
        try:
            return version_named(match[1], int(match[2]))
        except NotFound:
            raise forms.ValidationError(
                _("%(learner)s has no version %(number)s."),
                params={"learner": match[1], "number": match[2]},
            ) from None


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


class NamedField(forms.CharField):
    """The name of a row, as addresses carry it."""

    def __init__(self, model: type[Model], *, label: "Words") -> None:
        """Look for the name among the rows of `model`."""
        super().__init__(label=label, max_length=64, required=False)
        self.model = model

    def clean(self, value: Any) -> Model | None:
        """Return the row, or None for an empty field."""
        text = super().clean(value)
        row = self.model.objects.filter(name=text).first() if text else None
        if text and row is None:
            raise forms.ValidationError(
                _("No %(kind)s is named “%(name)s”."),
                params={"kind": self.label.lower(), "name": text},
            )
        return row


class DayField(forms.DateField):
    """A calendar day that the database can hold."""

    def __init__(self, *, label: "Words") -> None:
        """Take days as browsers send them."""
        super().__init__(
            label=label,
            required=False,
            input_formats=["%Y-%m-%d"],
            error_messages={"invalid": _("Write a day as year-month-day, such as 2026-11-22.")},
        )

    def clean(self, value: Any) -> datetime | None:
        """Return the beginning of the day in the server's time zone, or None."""
        day = super().clean(value)
        if day is None:
            return None
        if not 1970 <= day.year <= 2200:
            raise forms.ValidationError(_("Choose a day between the years 1970 and 2200."))
        return timezone.make_aware(datetime.combine(day, time.min))


# What is shown: a text, or one that is translated when it is.
Words = str | Promise


def _one_of(
    label: Words, choices: list[tuple[str, Words]], *, empty: bool = True
) -> forms.ChoiceField:
    words = ", ".join(value for value, _ in choices)
    return forms.ChoiceField(
        label=label,
        choices=[("", _("any")), *choices] if empty else choices,
        required=False,
        error_messages={
            "invalid_choice": format_lazy(_("“%(value)s” is none of: {words}."), words=words)
        },
    )


def _number(label: Words) -> forms.IntegerField:
    return forms.IntegerField(label=label, min_value=0, max_value=2**31 - 1, required=False)


class SearchForm(forms.Form):
    """The filters, the order and the place in the list that an address of the browser carries."""

    q = forms.CharField(label=_("Search"), max_length=200, required=False)
    task = NamedField(Task, label=_("Task"))
    robot = NamedField(Robot, label=_("Robot"))
    purpose = _one_of(_("Purpose"), Purpose.choices)
    outcome = _one_of(
        _("Outcome"),
        [
            *Judgement.choices,
            (search.CUT_SHORT, _("Cut short")),
            (search.OPEN, _("Still uploading")),
        ],
    )
    corrected = _one_of(_("Corrected"), [("1", _("by an operator")), ("0", _("not at all"))])
    marked = _one_of(
        _("Marked"),
        [
            (Mark.CORRECTION, _("correction")),
            (Mark.RECOVERY, _("recovery")),
            (search.DISCARDED, _("correction discarded")),
        ],
    )
    labelled = _one_of(_("Labelled"), [("1", _("by a person")), ("0", _("not yet"))])
    by = forms.CharField(label=_("Corrected or labelled by"), max_length=150, required=False)
    policy_from = _number(_("Policy from"))
    policy_to = _number(_("Policy to"))
    made = VersionField(label=_("Made by version"), max_length=80, required=False)
    trained = VersionField(label=_("Trained version"), max_length=80, required=False)
    since = DayField(label=_("From day"))
    until = DayField(label=_("To day"))
    sort = _one_of(
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
        first, last = said.get("since"), said.get("until")
        if first and last and first > last:
            self.add_error("until", _("The last day is before the first."))
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
            started_before=said["until"] + timedelta(days=1) if said["until"] else None,
            order=said["sort"] or "newest",
        )


class DashboardForm(forms.Form):
    """What dashboards are about, as their address carries it."""

    RANGES = {
        "day": (_("last 24 hours"), timedelta(days=1)),
        "week": (_("last 7 days"), timedelta(days=7)),
        "month": (_("last 30 days"), timedelta(days=30)),
        "year": (_("last 365 days"), timedelta(days=365)),
    }

    range = _one_of(_("Range"), [(name, words) for name, (words, _) in RANGES.items()], empty=False)
    since = DayField(label=_("From day"))
    until = DayField(label=_("To day"))
    axis = _one_of(
        pgettext_lazy("axis", "By"),
        [("time", _("time")), ("version", _("policy version"))],
        empty=False,
    )
    split = _one_of(_("Split by"), list(dashboards.SPLITS.items()), empty=False)
    task = NamedField(Task, label=_("Task"))
    robot = NamedField(Robot, label=_("Robot"))
    site = forms.CharField(label=_("Site"), max_length=64, required=False)

    def clean(self) -> dict[str, Any]:
        """Check what spans two fields."""
        said = super().clean()
        first, last = said.get("since"), said.get("until")
        if first and last and first > last:
            self.add_error("until", _("The last day is before the first."))
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


class RobotsField(forms.ModelMultipleChoiceField):
    """Robots by name, as boxes to tick."""

    def __init__(self) -> None:
        """Offer every robot."""
        super().__init__(
            queryset=Robot.objects.order_by("name"),
            to_field_name="name",
            required=False,
            widget=forms.CheckboxSelectMultiple,
        )


def _terms(*, required: bool) -> dict[str, forms.Field]:
    return {
        "share": forms.IntegerField(
            label=_("Percent of robots"), min_value=1, max_value=100, required=required
        ),
        "alpha": forms.FloatField(
            label=_("Wrong claims at most (alpha)"),
            min_value=0.0001,
            max_value=0.5,
            required=required,
        ),
        "margin": forms.FloatField(
            label=_("Margin"), min_value=0.01, max_value=0.9, required=required
        ),
        "episodes": forms.IntegerField(
            label=_("Episodes an arm"), min_value=2, max_value=100_000, required=required
        ),
        "limit_min": forms.IntegerField(
            label=_("Time limit in minutes"), min_value=1, max_value=100_000, required=required
        ),
    }


class ChangeForm(forms.Form):
    """What a lead wants to do with a version, and with which robots."""

    ACTS = (("rollout", _("Roll out")), ("canary", _("Canary")), ("pin", _("Pin")))
    WHOM = (("all", _("every robot")), ("share", _("a share")), ("robots", _("named robots")))

    act = forms.ChoiceField(choices=ACTS)
    whom = forms.ChoiceField(choices=WHOM)
    robots = RobotsField()
    incumbent = VersionField(label=_("Compared with"), max_length=80, required=False)
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the terms of a canary; those that are not said are the learner's."""
        super().__init__(*args, **kwargs)
        self.fields |= _terms(required=False)

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

    @property
    def terms(self) -> dict[str, Any]:
        """The terms of a canary that were said."""
        said = self.cleaned_data
        return {name: said[name] for name in _terms(required=False) if said.get(name) is not None}


class ModeForm(forms.Form):
    """What a learner's publishes do, and the terms of its canaries."""

    mode = forms.ChoiceField(choices=[(mode, mode) for mode in ("automatic", "canary", "manual")])
    reason = forms.CharField(label=_("Why"), max_length=500, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Add the terms; those that are not said stay as they are."""
        super().__init__(*args, **kwargs)
        self.fields |= _terms(required=False)

    @property
    def terms(self) -> dict[str, Any]:
        """The terms that were said; the form must be valid."""
        said = self.cleaned_data
        return {name: said[name] for name in _terms(required=False) if said.get(name) is not None}


class DescribeForm(forms.Form):
    """What people write about a version."""

    notes = forms.CharField(max_length=2000, required=False, widget=forms.Textarea)
    tags = forms.CharField(max_length=400, required=False)

    def clean_tags(self) -> list[str]:
        """Return the words between commas and spaces."""
        return (
            re.split(r"[\s,]+", self.cleaned_data["tags"].strip())
            if (self.cleaned_data["tags"].strip())
            else []
        )


class SuspectForm(forms.Form):
    """What data is thought to be bad."""

    episode = forms.UUIDField(
        label=_("Episode"),
        required=False,
        error_messages={"invalid": _("That is no episode's uid.")},
    )
    operator = forms.CharField(label=_("Corrected by"), max_length=150, required=False)
    labeller = forms.CharField(label=_("Labelled by"), max_length=150, required=False)
    since = DayField(label=_("From day"))
    until = DayField(label=_("To day"))

    def clean(self) -> dict[str, Any]:
        """Check that something is named, and that the span is one."""
        said = super().clean()
        if not self.errors and not any(said.values()):
            raise forms.ValidationError(_("Name an episode, an operator, a labeller or days."))
        if said.get("since") and said.get("until") and said["since"] > said["until"]:
            self.add_error("until", _("The last day is before the first."))
        return said

    def suspect(self) -> taint.Suspect:
        """Return what is meant; the form must be valid."""
        said = self.cleaned_data
        return taint.Suspect(
            episode=said["episode"],
            operator=said["operator"],
            labeller=said["labeller"],
            started_from=said["since"],
            started_before=said["until"] + timedelta(days=1) if said["until"] else None,
        )
