import struct
import uuid

import msgspec
import numpy as np
import pytest
from django.test import Client

from fleet.protocol.spec import Camera
from learning import blobs
from learning.core.records import Indicator
from learning.core.sidecar import Annotation, Origin, encode_annotation
from learning.models import Learner, Sidecar, ThresholdVersion, ValueVersion
from learning.selectors import frames
from learning.selectors.replay import control_spans, largest_drop
from learning.services.labels import add_label
from tests.learning.making import SPEC, picture, record, send

WATCHED = msgspec.structs.replace(
    SPEC,
    cameras=(Camera(name="front", width_px=16, height_px=16, title="Front"),),
    image_every=2,
)
MODES = (0, 0, 0, 2, 1, 1, 0, 0, 3, 3)


@pytest.fixture
def viewer(cast):
    client = Client()
    client.force_login(cast.viewer.user)
    return client


@pytest.fixture
def episode(robot, task):
    return send(record(robot, task, modes=MODES, spec=WATCHED, outcome="failure"), robot)


def make_value(name: str = "recap", number: int = 1) -> ValueVersion:
    learner, _ = Learner.objects.get_or_create(name=name, defaults={"algorithm": "recap"})
    return ValueVersion.objects.create(
        learner=learner, number=number, state="done", sha256="1" * 64, correlation=0.8,
        ended_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


def make_sidecar(episode, value, threshold=None, *, outcome="failure", values=None) -> Sidecar:
    steps = episode.steps
    values = np.full(steps, -0.1, np.float32) if values is None else values
    annotation = Annotation(
        Origin(episode=str(episode.uid), outcome=outcome, value=value.number, threshold=1,
               epsilon=0.1),
        np.zeros(steps, np.float32),
        values,
        np.linspace(0, 1, steps, dtype=np.float32),
        np.full(steps, Indicator.POSITIVE, np.int8),
    )  # fmt: skip
    return Sidecar.objects.create(
        episode=episode, value=value, threshold=threshold, outcome=outcome, steps=steps,
        sha256=blobs.store().put(encode_annotation(annotation)),
    )  # fmt: skip


def test_a_replay_says_who_had_control_and_what_was_done(viewer, episode):
    said = viewer.get(f"/episodes/{episode.uid}/replay.json")
    assert said["Cache-Control"] == "no-store"
    replay = said.json()
    assert (replay["steps"], replay["outcome"], replay["robot"]) == (10, "failure", "arm-a")
    assert replay["cameras"] == [{"name": "front", "title": "Front"}]
    assert [(s["who"], s["start"], s["end"]) for s in replay["control"]] == [
        ("policy", 0, 3), ("handover", 3, 4), ("human", 4, 6), ("policy", 6, 8), ("nobody", 8, 10),
    ]  # fmt: skip
    assert [(s["start"], s["end"], s["operator"]) for s in replay["interventions"]] == [
        (3, 6, "ann")
    ]
    assert np.shape(replay["action"]) == (10, 2)
    # Nothing computed them: null, not a row of zeros.
    assert replay["value"] is replay["doubt"] is replay["suggestion"] is None
    steps = viewer.get(f"/episodes/{episode.uid}/steps.json").json()["steps"]
    assert "value" not in steps[0]


def test_what_the_robot_computed_is_shown_until_a_sidecar_knows_better(viewer, robot, task):
    nan = float("nan")
    values = (nan, *(-0.1,) * 4, nan, *(-0.5,) * 4)
    value = make_value(number=2)
    recorded = record(
        robot, task, modes=MODES, values=values, value_sha256=value.sha256, outcome="failure"
    )
    episode = send(recorded, robot)
    replay = viewer.get(f"/episodes/{episode.uid}/replay.json").json()
    assert replay["value"] == [None, *(-0.1,) * 4, None, *(-0.5,) * 4]
    assert replay["value_function"] == {
        "number": 2, "threshold": None, "epsilon": None, "correlation": 0.8, "recorded": True,
    }  # fmt: skip
    assert replay["advantage"] is None
    # A missing value is the one before it: five steps at -0.1, then five of which one is missing.
    assert replay["suggestion"]["drop"] == pytest.approx(0.32)
    assert replay["interventions"][0]["value"] == -0.1
    assert episode.interventions.get().value == -0.1
    steps = viewer.get(f"/episodes/{episode.uid}/steps.json").json()["steps"]
    assert [step["value"] for step in steps] == replay["value"]
    curves = viewer.get(f"/episodes/{episode.uid}/curves.json").json()["curves"]
    assert next(c for c in curves if c["name"] == "value")["values"] == replay["value"]
    make_sidecar(episode, value, values=np.full(10, -0.25, np.float32))
    replay = viewer.get(f"/episodes/{episode.uid}/replay.json").json()
    assert (replay["value"][0], replay["value_function"]["recorded"]) == (-0.25, False)


def test_values_show_where_it_went_wrong_and_advantages_only_for_the_outcome_in_force(
    viewer, episode, cast
):
    value = make_value()
    threshold = ThresholdVersion.objects.create(value=value, number=1)
    fell = np.array([-0.1] * 5 + [-0.4] * 5, np.float32)
    make_sidecar(episode, value, threshold, values=fell)
    replay = viewer.get(f"/episodes/{episode.uid}/replay.json").json()
    assert replay["suggestion"] == {"step": 5, "drop": 0.3}
    assert replay["value"][0] == -0.1
    assert replay["advantage"][-1] == 1.0
    assert replay["indicator"] == [2] * 10
    assert replay["value_function"] == {
        "number": 1, "threshold": 1, "epsilon": 0.1, "correlation": 0.8, "recorded": False,
    }  # fmt: skip
    add_label(episode_uid=episode.uid, operator=cast.labeller, outcome="success")
    replay = viewer.get(f"/episodes/{episode.uid}/replay.json").json()
    assert replay["labels"][0]["operator"] == "labeller"
    assert (replay["advantage"], replay["indicator"]) == (None, None)
    assert replay["value"] is not None


def test_a_lost_sidecar_costs_the_strips_and_not_the_replay(viewer, episode, store):
    sidecar = make_sidecar(episode, make_value())
    store.delete(sidecar.sha256)
    replay = viewer.get(f"/episodes/{episode.uid}/replay.json")
    assert (replay.status_code, replay.json()["value"]) == (200, None)


def test_a_step_shows_the_newest_picture_up_to_it(viewer, episode):
    for step, shown in ((0, 0), (1, 0), (4, 4), (5, 4), (9, 8)):
        answer = viewer.get(f"/episodes/{episode.uid}/frames/front/{step}.jpg")
        assert answer.content == picture(shown)
    assert answer["Content-Type"] == "image/jpeg"
    assert "immutable" in answer["Cache-Control"]
    assert "private" in answer["Cache-Control"]


def test_packs_hold_every_picture_once_across_parts(viewer, episode, monkeypatch):
    monkeypatch.setattr(frames, "PACK_STEPS", 6)
    found = {}
    for index in (0, 1):
        body = viewer.get(f"/episodes/{episode.uid}/frames/front/{index}.pack").content
        (length,) = struct.unpack_from("!I", body)
        meta = msgspec.json.decode(body[4 : 4 + length])
        at = 4 + length
        for step, size in zip(meta["steps"], meta["sizes"], strict=True):
            found[step] = body[at : at + size]
            at += size
        assert at == len(body)
    assert found == {step: picture(step) for step in (0, 2, 4, 6, 8)}
    assert viewer.get(f"/episodes/{episode.uid}/frames/front/2.pack").status_code == 404


def test_an_episode_without_cameras_says_so_by_having_none(viewer, robot, task):
    episode = send(record(robot, task), robot)
    assert viewer.get(f"/episodes/{episode.uid}/replay.json").json()["cameras"] == []
    refused = viewer.get(f"/episodes/{episode.uid}/frames/front/0.jpg")
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert "no camera front" in refused.json()["reason"]


@pytest.mark.parametrize(
    "path",
    ["frames/front/10.jpg", "frames/front/99999999999999999999.jpg", "frames/rear/0.jpg",
     "frames/%00/0.jpg", "frames/front/1.pack"],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_words(viewer, episode, path):
    refused = viewer.get(f"/episodes/{episode.uid}/{path}")
    assert refused.status_code == 404
    assert "immutable" not in refused.get("Cache-Control", "")
    assert refused.json()["reason"]


def test_unknown_and_open_episodes_have_no_replay(viewer, robot, task):
    from tests.learning.making import send_parts

    recorded = record(robot, task)
    send_parts(recorded, robot)
    for uid in (recorded.uid, uuid.uuid4()):
        refused = viewer.get(f"/episodes/{uid}/replay.json")
        assert refused.status_code == 404
        assert "no finished episode" in refused.json()["reason"]
    assert viewer.get("/episodes/nonsense/replay.json").status_code == 404


def test_a_part_lost_from_the_store_is_said_and_not_kept_by_the_browser(viewer, episode, store):
    store.delete(episode.parts.get(index=0).sha256)
    for path in ("replay.json", "frames/front/0.jpg", "frames/front/0.pack"):
        refused = viewer.get(f"/episodes/{episode.uid}/{path}")
        assert (refused.status_code, refused.json()["code"]) == (404, "blob_missing")
        assert refused["Cache-Control"] == "no-store"


def test_strangers_see_no_replay(episode, client, cast):
    path = f"/episodes/{episode.uid}/frames/front/0.jpg"
    assert client.get(path).status_code == 302
    client.force_login(cast.outsider)
    assert client.get(path).status_code == 403


def test_spans_have_no_gap_and_end_with_the_episode():
    assert control_spans(np.array([], np.uint8)) == []
    assert control_spans(np.array([1, 1], np.uint8)) == [{"who": "human", "start": 0, "end": 2}]


def test_noise_is_no_point_of_failure():
    rng = np.random.default_rng(0)
    assert largest_drop(rng.normal(-0.3, 0.02, 200)) is None
    assert largest_drop(np.array([-0.1])) is None
    assert largest_drop(np.full(9, np.nan)) is None
    falling = np.concatenate([np.full(80, -0.1), np.full(40, -0.45)])
    assert largest_drop(falling + rng.normal(0, 0.02, 120))["step"] == pytest.approx(80, abs=2)
