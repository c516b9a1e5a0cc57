"""Admin pages: every row can be looked at; what services decide cannot be edited here."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from fleet.models import (
    FleetSettings,
    HelpRequest,
    Operator,
    PolicyReport,
    Robot,
    SavedView,
    TakeoverLease,
    Task,
)
from fleet.services import robots


class ReadOnly(admin.ModelAdmin):
    """Rows that are written by services only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TellsRobots(admin.ModelAdmin):
    """Rows that are part of what robots are assigned: they are told after a change."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        robots.announce_assignments()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        robots.announce_assignments()


@admin.register(Task)
class TaskAdmin(TellsRobots):
    list_display = ["name", "family", "instruction", "timeout_ticks", "weight", "enabled"]
    list_filter = ["family", "enabled"]
    search_fields = ["name", "instruction"]


@admin.register(FleetSettings)
class FleetSettingsAdmin(TellsRobots):
    list_display = ["__str__", "evaluate_every", "reset_s", "paused"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return not FleetSettings.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Robot)
class RobotAdmin(TellsRobots):
    list_display = ["name", "site", "kind", "mode", "assigned_number", "reported_number", "enabled"]
    list_filter = ["site", "kind", "enabled", "mode"]
    search_fields = ["name", "site"]
    fields = [
        "name", "site", "kind", "enabled", "paused", "tasks", "mode", "purpose", "evaluation",
        "epoch", "assigned_number", "assigned_sha256", "assigned_at",
        "pinned_at", "pinned_by", "pin_reason",
        "reported_number", "reported_sha256", "reported_since",
        "connected_at", "last_heartbeat_at", "agent_version",
        "stop_requested", "stop_by", "stop_requested_at",
    ]  # fmt: skip
    filter_horizontal = ["tasks"]
    actions = ["issue_new_tokens"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        editable = {"site", "kind", "enabled", "paused", "tasks"} | (
            {"name"} if obj is None else set()
        )
        return [name for name in self.fields if name not in editable]

    def save_model(self, request: HttpRequest, obj: Robot, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        token = robots.issue_token(obj)
        self._show(request, obj, token)

    @admin.action(description=gettext_lazy("Issue new tokens (the old ones stop working)"))
    def issue_new_tokens(self, request: HttpRequest, queryset: QuerySet[Robot]) -> None:
        for robot in queryset:
            self._show(request, robot, robots.issue_token(robot))

    def _show(self, request: HttpRequest, robot: Robot, token: str) -> None:
        text = _("Token of %(robot)s, shown this once: %(token)s") % {
            "robot": robot.name,
            "token": token,
        }
        self.message_user(request, text, messages.WARNING)


@admin.register(Operator)
class OperatorAdmin(admin.ModelAdmin):
    list_display = ["user", "kind", "role"]
    list_filter = ["kind", "role"]
    search_fields = ["user__username"]
    fields = ["user", "kind", "role"]
    autocomplete_fields = ["user"]


@admin.register(TakeoverLease)
class TakeoverLeaseAdmin(ReadOnly):
    list_display = ["robot", "epoch", "operator", "granted_at", "ended_at", "how"]
    list_filter = ["robot", "how"]
    list_select_related = ["robot", "operator__user"]


@admin.register(HelpRequest)
class HelpRequestAdmin(ReadOnly):
    list_display = [
        "robot", "status", "reasons", "raised_at", "answered_at", "closed_at", "claimed_by", "note",
    ]  # fmt: skip
    list_filter = ["status", "robot"]
    list_select_related = ["robot", "claimed_by__user"]


@admin.register(PolicyReport)
class PolicyReportAdmin(ReadOnly):
    list_display = ["robot", "number", "status", "reported_at", "reason"]
    list_filter = ["robot", "status"]
    list_select_related = ["robot"]


@admin.register(SavedView)
class SavedViewAdmin(ReadOnly):
    list_display = ["name", "operator", "query"]
    list_select_related = ["operator__user"]
