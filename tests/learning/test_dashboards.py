"""The dashboards: counts that equal a recount, what is made of them, and the page."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import pytest
from django.urls import reverse

from fleet.models import HelpRequest, PolicyReport
from learning.models import EpisodeUse, OperatorRollup, PolicyVersion, SpanRollup, VersionRollup
from learning.selectors import dashboards, freshness
from learning.selectors.dashboards import Frame
from learning.services import rollups
from learning.services.labels import add_label, label_many, withdraw_label
from tests.factories import make_operator, make_robot, make_task
from tests.learning.brains import make_learner
from tests.learning.making import record, send
from tests.race import at_once

# When the episodes of `making.record` begin.
STARTED = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
NOW = STARTED + timedelta(hours=1)
WORKED = (0, 0, 2, 1, 1, 0, 0, 1)


def frame(**more) -> Frame:
    return Frame(since=STARTED - timedelta(hours=10), until=STARTED + timedelta(hours=10), **more)


def kept() -> dict:
    """What the tables hold, in the form of a recount."""
    rows = {}
    for model, names in (
        (SpanRollup, ("span", "starts_at", "robot_id", "task_id", "purpose")),
        (VersionRollup, ("policy_number", "task_id", "purpose")),
        (OperatorRollup, ("day", "operator", "operator_kind", "task_id")),
    ):
        counted = [f.name for f in model._meta.get_fields() if f.name.endswith(("s", "ed"))]
        for row in model.objects.all():
            key = model, tuple((name, getattr(row, name)) for name in names)
            rows[key] = {n: getattr(row, n) for n in counted if getattr(row, n)}
    return rows


def assert_exact():
    totals, _ = rollups.counted()
    recounted = {key: {n: v for n, v in row.items() if v} for key, row in totals.items()}
    assert kept() == recounted


@pytest.mark.django_db
def test_counts_equal_a_recount_through_closing_judging_and_taking_back(robot, task):
    other, second = make_robot("arm-b"), make_task("pour")
    ann, ben = make_operator("ann"), make_operator("ben")
    episodes = [
        send(record(r, t, modes=modes, outcome=outcome, purpose=purpose, policy_number=n), r)
        for n, (r, t, modes, outcome, purpose) in enumerate(
            [
                (robot, task, WORKED, "success", "train"),
                (robot, task, (0,) * 6, "timeout", "train"),
                (other, second, WORKED, "failure", "train"),
                (other, task, (0,) * 6, "success", "eval"),
            ],
            start=1,
        )
    ]
    send(record(None, task, purpose="demonstration", policy_number=None), None)
    assert_exact()
    given = [
        add_label(episode_uid=episode.uid, operator=ann, outcome="partial", uid=uuid4())
        for episode in episodes[1:3]
    ]
    assert_exact()
    # The only label of its episode, and below one that there are others on.
    withdraw_label(label_uid=given[1].uid, operator=ann)
    assert_exact()
    label_many(episode_uids=[e.uid for e in episodes], operator=ben, outcome="failure")
    assert_exact()
    assert sum(SpanRollup.objects.filter(span="day").values_list("failures", flat=True)) == 4
    withdraw_label(label_uid=given[0].uid, operator=ann)
    assert_exact()
    before = kept()
    SpanRollup.objects.all().delete()
    # Counts that are off lose no judgement; a recount puts them right.
    label_many(episode_uids=[episodes[0].uid], operator=ann, outcome="success")
    assert rollups.recount() == 4
    assert_exact()
    assert kept().keys() == before.keys()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_counts_are_exact_when_many_close_and_judge_at_once(robot, task):
    from learning.services.ingest import close_episode
    from tests.learning.making import send_parts

    done = [send(record(robot, task, modes=WORKED), robot) for _ in range(4)]
    fresh = [record(robot, task, modes=WORKED) for _ in range(6)]
    for episode in fresh:
        send_parts(episode, robot)
    people = [make_operator(f"p{i}") for i in range(4)]
    uids = [e.uid for e in done]
    came = at_once(
        [partial(close_episode, uid=e.uid, manifest=e.manifest, robot=robot) for e in fresh]
        + [
            partial(label_many, episode_uids=uids[i % 2 :], operator=p, outcome="failure")
            for i, p in enumerate(people)
        ]
        + [rollups.recount]
    )
    assert not [answer for answer in came if isinstance(answer, Exception)]
    assert_exact()


@pytest.mark.django_db
def test_a_point_says_success_effort_and_both_throughputs(robot, task):
    for outcome in ("success", "success", "timeout", "abort"):
        send(record(robot, task, modes=WORKED, outcome=outcome), robot)
    for outcome in ("success", "failure", "abort"):
        send(record(robot, task, outcome=outcome, purpose="eval"), robot)
    (cell,) = dashboards.over_time(frame(), now=NOW)
    assert cell.at == STARTED.replace(minute=0, second=0)
    assert (cell.success.successes, cell.success.n) == (1, 2)
    assert cell.terminated == 3
    # 4 episodes of 8 steps of 0.05 s.
    assert cell.per_hour_acted == pytest.approx(3 / (4 * 8 * 0.05) * 3600)
    assert cell.wall_s == 3600
    assert cell.per_wall_hour == pytest.approx(2)
    assert cell.per_episode == 2
    assert cell.human_minutes == pytest.approx(4 * 4 * 0.05 / 60)
    assert cell.used == pytest.approx((4 * 8 + 3 * 6) * 0.05 / 3600)
    # (M/N)·Σ reward / (1 + Σ human steps), by hand.
    assert cell.effort_return(2) == pytest.approx(2 / 1 * 2 / (1 + 4 * 4))
    (load,) = dashboards.operators(frame())
    assert (load.operator, load.interventions) == ("ann", 8)
    assert load.human_minutes == pytest.approx(cell.human_minutes)


@pytest.mark.django_db
def test_ranges_filters_and_splits_choose_the_points(robot, task):
    other, second = make_robot("arm-b", site="lab"), make_task("pour")
    for r, t, number in ((robot, task, 3), (robot, second, 3), (other, task, 5)):
        send(record(r, t, policy_number=number), r)

    def groups(**more):
        cells = dashboards.over_time(frame(**more), now=NOW)
        return {cell.group: cell.train["episodes"] for cell in cells}

    assert groups() == {"": 3}
    assert groups(split="task") == {"pour": 1, "stack": 2}
    assert groups(split="robot", task=task) == {"arm-a": 1, "arm-b": 1}
    assert groups(split="site") == {"none": 2, "lab": 1}
    assert groups(site="lab") == {"": 1}
    assert groups(robot=robot) == {"": 2}
    empty = Frame(since=NOW + timedelta(days=1), until=NOW + timedelta(days=2))
    assert dashboards.over_time(empty, now=NOW) == []
    versions = dashboards.over_versions(frame(split="task", task=task))
    assert [(c.at, c.group, c.train["episodes"]) for c in versions] == [
        (3, "stack", 1),
        (5, "stack", 1),
    ]
    long = Frame(since=STARTED - timedelta(days=20), until=STARTED + timedelta(days=1))
    (day,) = dashboards.over_time(long, now=NOW)
    assert day.at == rollups.day_of(STARTED)
    assert day.train["episodes"] == 3


@pytest.mark.django_db
def test_answers_to_requests_are_timed_from_raised_to_taken(robot):
    for number, wait in enumerate((2, 4, None, 30)):
        HelpRequest.objects.create(
            robot=robot,
            number=number,
            revision=number,
            status="resolved",
            raised_at=STARTED,
            answered_at=None if wait is None else STARTED + timedelta(seconds=wait),
            closed_at=STARTED + timedelta(minutes=1),
        )
    assert dashboards.waiting(frame()) == dashboards.Waiting(4, 3, 4.0, 30.0)


@pytest.mark.django_db
def test_a_correction_is_followed_to_the_first_version_made_of_it_on_every_robot(robot, task):
    learner, other = make_learner(), make_robot("arm-b")
    episode = send(record(robot, task, modes=(0, 0, 1, 1, 0, 0)), robot)
    corrected = STARTED + timedelta(seconds=2 * 0.05)
    EpisodeUse.objects.create(episode=episode, learner=learner, step=40)
    round_ = learner.round_set.create(number=1, epoch=1)
    for number, step in ((2, 30), (3, 60), (4, 90)):
        version = PolicyVersion.objects.create(
            learner=learner, number=number, sha256=f"{number:064}", size_bytes=1, step=step,
            round=round_,
        )  # fmt: skip
        PolicyVersion.objects.filter(pk=version.pk).update(created_at=STARTED + timedelta(hours=1))

    def applied(who, number, seconds):
        PolicyReport.objects.create(
            robot=who,
            number=number,
            sha256=f"{number:064}",
            status="applied",
            robot_wall_ns=seconds,
            reported_at=corrected + timedelta(seconds=seconds),
        )

    applied(robot, 2, 5)
    assert freshness.correction_to_fleet(frame()).arrived == 0
    applied(robot, 3, 20)
    # The other one missed version 3.
    applied(other, 4, 50)
    fresh = freshness.correction_to_fleet(frame())
    assert (fresh.corrections, fresh.arrived) == (1, 2)
    assert (fresh.p50_s, fresh.p95_s) == (50.0, 50.0)
    assert freshness.correction_to_fleet(frame(robot=other)).corrections == 0


@pytest.mark.django_db
def test_the_page_its_figures_and_its_table_say_the_same(client, cast, robot, task):
    for outcome in ("success", "failure"):
        send(record(robot, task, modes=WORKED, outcome=outcome), robot)
    client.force_login(cast.viewer.user)
    days = {"since": "2023-11-14", "until": "2023-11-14", "split": "task"}
    page = client.get(reverse("learning:dashboards"), days).content.decode()
    assert "no evaluation in this range" in page
    assert "1 succeeded, 2 corrected" in page
    figures = client.get(reverse("learning:dashboards_figures"), days).json()
    (line,) = figures["interventions"]["data"]
    assert (line["name"], line["y"]) == ("stack", [2.0])
    assert line["customdata"] == [
        "/episodes/?since=2023-11-14&until=2023-11-14&task=stack",
    ]
    assert client.get(line["customdata"][0]).status_code == 200
    assert figures["success"] is None
    table = client.get(reverse("learning:dashboards_export"), days).content.decode()
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["group"], row["episodes"], row["interventions_an_episode"]) == ("stack", "2", "2.0")
    by_version = client.get(reverse("learning:dashboards_figures"), {"axis": "version"}).json()
    assert by_version["acted"]["data"][0]["x"] == [1]
    assert json.dumps(by_version)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"range": "aeon"}, "is none of"),
        ({"since": "yesterday"}, "Write a day as"),
        ({"since": "2024-02-02", "until": "2024-01-01"}, "The last day is before the first."),
        ({"robot": "nobody"}, "No robot is named"),
        ({"split": "mood"}, "is none of"),
        ({"axis": "x"}, "is none of"),
    ],
)
def test_rubbish_in_an_address_is_answered_in_words(client, cast, query, words):
    client.force_login(cast.viewer.user)
    assert words in client.get(reverse("learning:dashboards"), query).content.decode()
    assert client.get(reverse("learning:dashboards_figures"), query).json() == {}
    assert client.get(reverse("learning:dashboards_export"), query).status_code == 400
