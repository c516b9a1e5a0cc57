"""Fields that several forms have."""

import re
from datetime import datetime, time, timedelta
from typing import Any

from django import forms
from django.db.models import Model
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from fleet.models import Robot
from learning.exceptions import NotFound
from learning.models import PolicyVersion
from learning.selectors.evaluations import version_named

_VERSION = re.compile(r"\s*([-\w]{1,64})\s+v?(\d{1,9})\s*", re.ASCII)
# What is shown: a text, or one that is translated when it is.
Words = str | Promise


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


class NamedField(forms.CharField):
    """The name of a row, as addresses carry it."""

    def __init__(self, model: type[Model], *, label: Words) -> None:
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

    def __init__(self, *, label: Words) -> None:
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


class DaysForm(forms.Form):
    """A range of days, both included and both optional."""

    since = DayField(label=_("From day"))
    until = DayField(label=_("To day"))

    def clean(self) -> dict[str, Any]:
        """Check that the range is one."""
        said = super().clean()
        first, last = said.get("since"), said.get("until")
        if first and last and first > last:
            self.add_error("until", _("The last day is before the first."))
        return said

    @property
    def end(self) -> datetime | None:
        """The end of the last day, excluded; the form must be valid."""
        last: datetime | None = self.cleaned_data["until"]
        return last + timedelta(days=1) if last else None


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


def one_of(
    label: Words, choices: list[tuple[str, Words]], *, empty: bool = True
) -> forms.ChoiceField:
    """One of some values with their words; none of them where `empty`."""
    words = ", ".join(value for value, _ in choices)
    return forms.ChoiceField(
        label=label,
        choices=[("", _("any")), *choices] if empty else choices,
        required=False,
        error_messages={
            "invalid_choice": format_lazy(_("“%(value)s” is none of: {words}."), words=words)
        },
    )


def number(label: Words) -> forms.IntegerField:
    """A count, or none."""
    return forms.IntegerField(label=label, min_value=0, max_value=2**31 - 1, required=False)
