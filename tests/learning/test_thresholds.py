import pytest
from django.db.models import Sum

from learning.models import Sidecar, ThresholdVersion
from learning.selectors import thresholds
from learning.selectors.thresholds import PERCENTS, preview
from learning.services.labels import add_label
from learning.services.sidecars import derive_threshold, run_value_job
from learning.services.values import claim_value, move_task_threshold, request_value
from tests.learning.brains import make_learner
from tests.learning.making import record, send
from tests.learning.test_pages import page, signed_in

FIT = {"steps": 5, "batch_size": 16, "width": 16, "folds": 2, "horizon": 3}

pytestmark = pytest.mark.django_db


@pytest.fixture
def episodes(robot, task):
    return [
        send(record(robot, task, modes=modes, outcome=outcome, seed=10 + i), robot)
        for i, (outcome, modes) in enumerate(
            [("success", (0,) * 8), ("success", (0, 0, 2, 1, 1, 0, 0, 0)), ("failure", (0,) * 8),
             ("timeout", (0,) * 8), ("abort", (0,) * 8)]
        )
    ]  # fmt: skip


@pytest.fixture
def learner(robot, episodes):
    learner = make_learner("recap")
    learner.algorithm = "recap"
    learner.save()
    run_value_job(claim_value(request_value(learner, FIT).pk, "here"))
    return learner


def test_a_preview_counts_what_moving_the_threshold_then_derives(learner, episodes, cast):
    # Judged anew since the values were made: they hold for every outcome.
    add_label(episode_uid=episodes[0].uid, operator=cast.labeller, outcome="partial")
    counted = preview(learner, "stack")
    assert (counted.episodes, counted.free_steps, counted.forced_steps) == (4, 30, 2)
    assert list(counted.positive_steps) == sorted(counted.positive_steps)
    for percent in (10, 37, 80):
        threshold = move_task_threshold(learner, task="stack", positive=percent / 100)
        derive_threshold(threshold)
        made = Sidecar.objects.filter(threshold=threshold)
        assert made.aggregate(n=Sum("positive_steps"))["n"] == counted.positive_steps[percent - 1]
        assert threshold.epsilons["stack"] == pytest.approx(counted.epsilons[percent - 1], abs=1e-6)


def test_moving_one_task_leaves_the_others_and_repeating_it_changes_nothing(learner):
    first = ThresholdVersion.objects.get()
    moved = move_task_threshold(learner, task="stack", positive=0.25)
    assert move_task_threshold(learner, task="stack", positive=0.25) == moved
    assert moved.shares == first.shares | {"by_task": {"stack": 0.25}}
    assert (thresholds.share_of(moved, "stack"), thresholds.share_of(moved, "x")) == (0.25, 0.4)


def test_lost_values_are_said_and_not_counted(learner, store):
    sidecar = Sidecar.objects.first()
    store.delete(sidecar.sha256)
    counted = preview(learner, "stack")
    assert (counted.episodes, counted.unreadable) == (3, 1)


def test_leads_move_the_slider_and_others_see_it(learner, cast, episodes):
    assert len(PERCENTS) == 99
    path = "/label/thresholds/recap/"
    counts = signed_in(cast.viewer).get(f"{path}preview.json?task=stack").json()
    assert len(counts["positive_steps"]) == 99
    assert "Move the threshold" in page(cast.lead, "/label/thresholds/")
    assert "Move the threshold" not in page(cast.labeller, "/label/thresholds/")
    sent = {"task": "stack", "percent": "25"}
    assert signed_in(cast.labeller).post(f"{path}move/", sent).status_code == 403
    client = signed_in(cast.lead)
    assert client.post(f"{path}move/", sent).status_code == 302
    assert ThresholdVersion.objects.latest("id").shares["by_task"] == {"stack": 0.25}
    for rubbish in ({"percent": "0"}, {"percent": "100"}, {"percent": "-5"}, {"percent": "x"},
                    {"percent": ""}, {"task": "nonsense"}, {"task": ""}):  # fmt: skip
        client.post(f"{path}move/", sent | rubbish)
        assert "was not moved" in client.get("/label/thresholds/").content.decode()
    assert ThresholdVersion.objects.count() == 2
    for query in ("task=nonsense", "", "task=%00"):
        refused = client.get(f"{path}preview.json?{query}")
        assert (refused.status_code, bool(refused.json()["reason"])) == (404, True)
    assert client.get("/label/thresholds/nobody/preview.json").status_code == 404


def test_without_a_value_function_the_page_says_so(cast):
    assert "No value function yet" in page(cast.viewer, "/label/thresholds/")
