"""Pages of the learning app."""

from django.urls import path

from learning.views import episodes, learner

app_name = "learning"
urlpatterns = [
    path("episodes/", episodes.episodes, name="episodes"),
    path("learner/", learner.learner, name="learner"),
    path("learner/_today/", learner.today, name="today"),
    path("learner/_state/", learner.state, name="state"),
    path("learner/_versions/", learner.versions, name="versions"),
    path("learner/figures.json", learner.figures, name="figures"),
    path("learner/<slug:name>/switch/", learner.switch, name="switch"),
]
