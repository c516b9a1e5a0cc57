"""Pages of the learning app."""

from django.urls import path

from learning.views import episodes, learner, values

app_name = "learning"
urlpatterns = [
    path("episodes/", episodes.episodes, name="episodes"),
    path("learner/", learner.learner, name="learner"),
    path("learner/_today/", learner.today, name="today"),
    *(
        path(f"learner/_{part}/", learner.fragment, {"part": part}, name=part)
        for part in ("state", "tasks", "rounds", "versions", "values")
    ),
    path("learner/figures.json", learner.figures, name="figures"),
    path("learner/<slug:name>/value/", values.value, name="value"),
    path("learner/<slug:name>/switch/", learner.switch, name="switch"),
]
