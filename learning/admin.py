"""Django admin: look at everything, change little. What was recorded is never edited."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from learning.models import (
    Canary,
    Episode,
    EpisodePart,
    Evaluation,
    EvaluationTrial,
    Exclusion,
    Intervention,
    Label,
    Learner,
    LearnerMetric,
    OperatorRollup,
    PolicyChange,
    PolicyVersion,
    Rollout,
    Round,
    Sidecar,
    SpanReview,
    SpanRollup,
    ThresholdVersion,
    ValueVersion,
    VersionRollup,
)


class ReadOnly:
    """A record: shown, never added, changed or deleted here."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False


class PartInline(ReadOnly, admin.TabularInline):
    model = EpisodePart
    extra = 0


class InterventionInline(ReadOnly, admin.TabularInline):
    model = Intervention
    extra = 0


class LabelInline(ReadOnly, admin.TabularInline):
    model = Label
    extra = 0


@admin.register(Episode)
class EpisodeAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "uid", "robot", "task", "purpose", "outcome", "steps", "human_steps", "policy_number",
        "state", "closed_seq",
    )  # fmt: skip
    list_filter = ("state", "purpose", "outcome", "task", "robot", "mixed_versions")
    list_select_related = ("robot", "task")
    search_fields = ("uid",)
    inlines = (PartInline, InterventionInline, LabelInline)


@admin.register(Learner)
class LearnerAdmin(admin.ModelAdmin):
    list_display = ("name", "algorithm", "state", "step", "rounds", "lease_holder", "last_error")
    # Its configuration and its state are for people; the rest belongs to the rounds.
    fields = ("name", "algorithm", "config", "state", "note", "last_error")
    readonly_fields = ("note", "last_error")


@admin.register(Round)
class RoundAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "learner", "number", "state", "started_at", "steps", "train_s", "overhead_s",
        "versions_published", "reason",
    )  # fmt: skip
    list_filter = ("state", "learner")


@admin.register(PolicyVersion)
class PolicyVersionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("learner", "number", "state", "step", "size_bytes", "created_at", "assigned_at")
    list_filter = ("state", "learner")
    search_fields = ("sha256",)


@admin.register(LearnerMetric)
class LearnerMetricAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("learner", "step", "at")
    list_filter = ("learner",)


class ThresholdInline(ReadOnly, admin.TabularInline):
    model = ThresholdVersion
    extra = 0


@admin.register(ValueVersion)
class ValueVersionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "learner", "number", "state", "progress", "correlation", "episodes", "created_at",
        "ended_at", "reason",
    )  # fmt: skip
    list_filter = ("state", "learner")
    inlines = (ThresholdInline,)


@admin.register(Sidecar)
class SidecarAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("episode", "value", "threshold", "outcome", "positive_steps", "steps")
    list_select_related = ("episode", "value", "threshold")
    search_fields = ("episode__uid", "sha256")


class TrialInline(ReadOnly, admin.TabularInline):
    model = EvaluationTrial
    extra = 0
    fields = ("position", "version", "task", "seed", "state", "attempts", "robot", "reason")


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ("uid", "first", "second", "state", "decision", "requested_by", "created_at")
    list_filter = ("state",)
    list_select_related = ("first", "second", "requested_by__user")
    inlines = (TrialInline,)


@admin.register(SpanReview)
class SpanReviewAdmin(ReadOnly, admin.ModelAdmin):
    list_display = (
        "created_at", "robot", "episode_uid", "epoch", "mark", "discarded", "trim_start",
        "trim_end", "operator", "note",
    )  # fmt: skip
    list_filter = ("mark", "discarded", "robot")
    list_select_related = ("robot", "operator__user")


@admin.register(SpanRollup, VersionRollup, OperatorRollup)
class RollupAdmin(ReadOnly, admin.ModelAdmin):
    list_filter = ("task",)


@admin.register(Rollout)
class RolloutAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["learner", "mode", "target", "part", "changed_at"]


@admin.register(Canary)
class CanaryAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["uid", "candidate", "incumbent", "state", "verdict", "started_at", "ended_at"]
    list_filter = ["state", "verdict"]


@admin.register(PolicyChange)
class PolicyChangeAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["at", "kind", "what", "operator", "reason"]
    list_filter = ["kind"]


@admin.register(Exclusion)
class ExclusionAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["episode", "operator", "reason", "created_at"]
