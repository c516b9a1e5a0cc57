import uuid
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.models import Operator, Robot, Task
from learning.models import Episode, Intervention, Learner, PolicyVersion, Round
from learning.models.episodes import Purpose
from learning.services.labels import add_label
from tests.factories import Cast, make_robot, make_task


def signed_in(operator: Operator) -> Client:
    client = Client()
    client.force_login(operator.user)
    return client


def page(operator: Operator, path: str) -> str:
    answer = signed_in(operator).get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def make_episode(seq: int, robot: Robot, task: Task, **fields: object) -> Episode:
    """A closed episode; `seq` is its place in the buffers' cursor."""
    now = timezone.now() - timedelta(minutes=60 - seq)
    return Episode.objects.create(
        **{
            "uid": uuid.uuid4(), "robot": robot, "task": task, "purpose": Purpose.TRAIN,
            "seed": seq, "outcome": "success", "judge": "robot", "steps": 100, "complete": True,
            "started_at": now, "ended_at": now, "state": "closed", "closed_at": now,
            "closed_seq": seq, "manifest_sha256": "0" * 64, "policy_number": 1,
        }
        | fields
    )  # fmt: skip


@pytest.fixture
def learner(db: None) -> Learner:
    return Learner.objects.create(name="hg-dagger")


@pytest.mark.parametrize("path", ["/learner/", "/learner/figures.json", "/episodes/"])
def test_pages_ask_strangers_to_sign_in(cast: Cast, client: Client, path: str) -> None:
    assert client.get(path).headers["Location"].startswith("/login/?next=")


def test_without_a_learner_the_page_says_how_to_make_one(cast: Cast) -> None:
    assert "No learner yet" in page(cast.viewer, "/learner/")
    assert signed_in(cast.viewer).get("/learner/figures.json").json() == {}
    assert signed_in(cast.viewer).get("/learner/_state/").status_code == 404


def test_a_learner_without_anything_says_what_comes_next(cast: Cast, learner: Learner) -> None:
    text = page(cast.viewer, "/learner/")
    for words in ("Paused", "No gradient step yet", "No evaluation finished yet", "No round yet",
                  "Nothing published yet", "The buffers are empty"):  # fmt: skip
        assert words in text
    figures = signed_in(cast.viewer).get("/learner/figures.json").json()
    assert figures == {
        "success": None, "versions": None, "loss": None, "omega": None, "buffers": None
    }  # fmt: skip


def test_only_leads_start_and_pause_a_learner(cast: Cast, learner: Learner) -> None:
    path = "/learner/hg-dagger/switch/"
    assert "Start the learner</button>" not in page(cast.operator, "/learner/")
    assert signed_in(cast.operator).post(path, {"state": "running"}).status_code == 403
    learner.refresh_from_db()
    assert learner.state == "paused"
    assert "Start the learner</button>" in page(cast.lead, "/learner/")
    assert signed_in(cast.lead).post(path, {"state": "running"}).status_code == 302
    learner.refresh_from_db()
    assert learner.state == "running"
    fragment = (
        signed_in(cast.lead)
        .post(path, {"state": "paused"}, headers={"HX-Request": "true"})
        .content.decode()
    )
    assert "Start the learner</button>" in fragment
    assert "<html" not in fragment


def test_an_unknown_learner_is_not_switched(cast: Cast) -> None:
    answer = signed_in(cast.lead).post("/learner/nobody/switch/", {"state": "running"})
    assert answer.status_code == 404


def test_the_page_says_why_a_round_did_not_run(cast: Cast, learner: Learner) -> None:
    learner.note = "no trainable episode yet"
    learner.last_error = "StoreUnavailable: the store does not answer"
    learner.state = "running"
    learner.save()
    Round.objects.create(
        learner=learner, number=1, epoch=1, state="failed", ended_at=timezone.now(),
        reason="StoreUnavailable: the store does not answer",
    )  # fmt: skip
    text = page(cast.viewer, "/learner/")
    assert "no trainable episode yet" in text
    assert text.count("the store does not answer") == 2
    assert ">failed<" in text


def test_figures_are_drawn_from_the_curves(cast: Cast, learner: Learner) -> None:
    for step in (25, 50):
        learner.metrics.create(
            step=step,
            values={
                "loss": 0.5, "loss_online": {"a": 0.4, "b": None}, "loss_offline": {"a": 0.2},
                "omega": {"a": 0.8, "b": 0.5}, "omega_raw": {"a": 0.93, "b": 0.5},
                "episodes_online": 3, "episodes_offline": 60,
            },
        )  # fmt: skip
    figures = signed_in(cast.viewer).get("/learner/figures.json").json()
    batch, online, offline = figures["loss"]["data"]
    assert (batch["x"], batch["y"]) == ([25, 50], [0.5, 0.5])
    assert (online["y"], offline["y"]) == ([0.4, 0.4], [0.2, 0.2])
    named = {line["name"]: line["y"] for line in figures["omega"]["data"]}
    assert named == {"a": [0.8] * 2, "a, raw": [0.93] * 2, "b": [0.5] * 2, "b, raw": [0.5] * 2}
    assert [line["y"] for line in figures["buffers"]["data"]] == [[3, 3], [60, 60]]
    text = page(cast.viewer, "/learner/_tasks/")
    assert "<b>0.80</b>" in text
    assert ">0.93<" in text


def test_versions_say_which_robots_run_them_also_old_ones(cast: Cast, learner: Learner) -> None:
    versions = []
    for number in range(1, 20):
        versions.append(
            PolicyVersion.objects.create(
                learner=learner, number=number, sha256=f"{number:064d}", size_bytes=900_000,
                parent=versions[-1] if versions else None, step=25 * number,
            )
        )  # fmt: skip
    make_robot("arm-late", reported_number=2, reported_sha256=versions[1].sha256)
    make_robot("arm-new", reported_number=19, reported_sha256=versions[18].sha256)
    text = page(cast.viewer, "/learner/_versions/")
    assert text.index("v19") < text.index("v18")
    assert "arm-new" in text
    assert text.index("arm-late") > text.index("v2<")
    assert "v3<" not in text


def test_a_rejected_version_says_why(cast: Cast, learner: Learner) -> None:
    PolicyVersion.objects.create(
        learner=learner, number=1, sha256="0" * 64, size_bytes=1, state="rejected",
        gate={"reason": "weights are not finite"},
    )  # fmt: skip
    text = page(cast.viewer, "/learner/_versions/")
    assert "rejected" in text
    assert "weights are not finite" in text


def test_today_counts_todays_work_with_its_interval(cast: Cast) -> None:
    text = page(cast.viewer, "/learner/_today/")
    assert "no evaluation finished yet" in text
    assert "nothing published yet" in text
    robot, task = make_robot("arm-1"), make_task("stack")
    now = timezone.now()
    for seq in range(1, 11):
        make_episode(
            seq, robot, task, purpose=Purpose.EVAL, started_at=now,
            outcome="success" if seq <= 8 else "timeout",
        )  # fmt: skip
    corrected = make_episode(11, robot, task, started_at=now, human_steps=40, human_s=90.0)
    Intervention.objects.create(episode=corrected, start=10, end=50, operator="ann")
    Intervention.objects.create(
        episode=corrected, start=60, end=90, operator="script-1", operator_kind="scripted"
    )
    make_episode(12, robot, task, started_at=now - timedelta(days=2))
    text = page(cast.viewer, "/learner/_today/")
    assert "80 %" in text
    assert "[49–94] n=10" in text
    assert ">11</a>" in text
    assert ">2</a> <small>1 by scripts</small>" in text
    assert "<dd>1.5</dd>" in text


def test_no_episode_yet_and_no_match_are_told_apart(cast: Cast) -> None:
    assert "No episode yet" in page(cast.viewer, "/episodes/")
    assert "No episode matches" in page(cast.viewer, "/episodes/?outcome=failure")


def test_episodes_show_who_corrected_and_the_outcome_in_force(cast: Cast) -> None:
    robot, task = make_robot("arm-1"), make_task("stack", title="Stack")
    episode = make_episode(1, robot, task, human_steps=40, instruction="stack the blocks")
    Intervention.objects.create(
        episode=episode, start=10, end=50, operator="script-01", operator_kind="scripted"
    )
    text = page(cast.viewer, "/episodes/")
    assert "script-01 <small>(scripted)</small>" in text
    assert "chip good" in text
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="failure")
    assert "chip bad" in page(cast.viewer, "/episodes/")
