"""Pages of the learning app."""

from django.urls import path

from learning.views import (
    corrections,
    dashboards,
    episode,
    episodes,
    evaluations,
    experiments,
    labelling,
    learner,
    registry,
    replay,
    rollouts,
    taint,
    thresholds,
    values,
    versions,
)

app_name = "learning"
urlpatterns = [
    path("episodes/", episodes.episodes, name="episodes"),
    path("episodes/_found/", episodes.found, name="found"),
    path("episodes/export.csv", episodes.export, name="episodes_export"),
    path("episodes/<uuid:uid>/", episode.episode, name="episode"),
    path("episodes/<uuid:uid>/steps.json", episode.steps, name="episode_steps"),
    path("episodes/<uuid:uid>/curves.json", episode.curves, name="episode_curves"),
    path(
        "corrections/<str:robot>/<int:epoch>/<uuid:uid>/",
        corrections.correction,
        name="correction",
    ),
    path("policies/", registry.registry, name="policies"),
    path("policies/taint/", taint.taint, name="taint"),
    path("policies/<slug:name>/rebuild/", taint.rebuild_learner, name="rebuild"),
    path("policies/unpin/", rollouts.unpin, name="unpin"),
    path("policies/canaries/<uuid:uid>/_canary/", rollouts.canary, name="canary"),
    path("policies/canaries/<uuid:uid>/cancel/", rollouts.cancel, name="cancel_canary"),
    path("policies/<slug:name>/mode/", rollouts.mode, name="rollout_mode"),
    *(
        path(f"policies/<slug:name>/<int:number>/{act}/", getattr(rollouts, act), name=act)
        for act in ("change", "rollback", "describe")
    ),
    path("policies/<int:number>/", versions.version, name="version"),
    path("episodes/<uuid:uid>/replay.json", replay.replay, name="replay"),
    path("episodes/<uuid:uid>/frames/<str:camera>/<int:step>.jpg", replay.frame, name="frame"),
    path("episodes/<uuid:uid>/frames/<str:camera>/<int:index>.pack", replay.pack, name="frames"),
    path("evaluations/", evaluations.evaluations, name="evaluations"),
    path("evaluations/<uuid:uid>/", evaluations.evaluation, name="evaluation"),
    path("evaluations/<uuid:uid>/_progress/", evaluations.fragment, name="evaluation_progress"),
    path("evaluations/<uuid:uid>/cancel/", evaluations.cancel, name="cancel_evaluation"),
    path("evaluations/<uuid:uid>/figures.json", evaluations.figures, name="evaluation_figures"),
    path("evaluations/<uuid:uid>/export.<str:kind>", evaluations.export, name="evaluation_export"),
    path("experiments/", experiments.experiments, name="experiments"),
    path("experiments/<str:name>/", experiments.experiment, name="experiment"),
    path("experiments/<str:name>/<str:file>", experiments.file, name="experiment_file"),
    path("dashboards/", dashboards.page, name="dashboards"),
    path("dashboards/_summary/", dashboards.summary, name="dashboards_summary"),
    path("dashboards/figures.json", dashboards.figures, name="dashboards_figures"),
    path("dashboards/export.csv", dashboards.export, name="dashboards_export"),
    path("label/", labelling.desk, name="label"),
    path("label/seat/", labelling.seat, name="label_seat"),
    path("label/leave/", labelling.leave, name="leave_label"),
    path("label/withdraw/", labelling.take_back, name="withdraw_label"),
    path("label/many/", labelling.many, name="label_many"),
    path("label/bulk/", labelling.bulk, name="bulk_label"),
    path("label/review/", labelling.review, name="label_review"),
    path("label/thresholds/", thresholds.page, name="thresholds"),
    path("label/thresholds/<slug:name>/preview.json", thresholds.preview, name="threshold_preview"),
    path("label/thresholds/<slug:name>/move/", thresholds.move, name="move_threshold"),
    path("label/<uuid:uid>/", labelling.desk, name="label_episode"),
    path("label/<uuid:uid>/give/", labelling.give, name="give_label"),
    path("label/<uuid:uid>/replay.json", labelling.replay, name="label_replay"),
    path("learner/", learner.learner, name="learner"),
    path("learner/_today/", learner.today, name="today"),
    *(
        path(f"learner/_{part}/", learner.fragment, {"part": part}, name=part)
        for part in ("state", "forgetting", "tasks", "rounds", "versions", "values")
    ),
    path("learner/figures.json", learner.figures, name="figures"),
    path("learner/<slug:name>/value/", values.value, name="value"),
    path("learner/<slug:name>/switch/", learner.switch, name="switch"),
]
