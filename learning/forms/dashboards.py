"""What an address of the dashboards says."""

from datetime import UTC, datetime, timedelta

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from fleet.models import Robot, Task
from learning.forms.fields import DaysForm, NamedField, one_of
from learning.selectors import dashboards


class DashboardForm(DaysForm):
    """What dashboards are about, as their address carries it."""

    RANGES = {
        "day": (_("last 24 hours"), timedelta(days=1)),
        "week": (_("last 7 days"), timedelta(days=7)),
        "month": (_("last 30 days"), timedelta(days=30)),
        "year": (_("last 365 days"), timedelta(days=365)),
    }

    range = one_of(_("Range"), [(name, words) for name, (words, _) in RANGES.items()], empty=False)
    axis = one_of(
        pgettext_lazy("axis", "By"),
        [("time", _("time")), ("version", _("policy version"))],
        empty=False,
    )
    split = one_of(_("Split by"), list(dashboards.SPLITS.items()), empty=False)
    task = NamedField(Task, label=_("Task"))
    robot = NamedField(Robot, label=_("Robot"))
    site = forms.CharField(label=_("Site"), max_length=64, required=False)

    def frame(self, now: datetime) -> dashboards.Frame:
        """Return what is looked at; the form must be valid. Named days win over the range."""
        said = self.cleaned_data
        until = self.end or now + timedelta(hours=1)
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
