import errno

import numpy as np
import pytest
import simplejpeg

from fleet.agent import recorder as recorder_module
from fleet.agent.recorder import PART_STEPS, EpisodeWriter, RecordedTick, Recorder
from fleet.agent.spool import Spool
from fleet.protocol.control import ControlLabel, Lease, Mode
from fleet.protocol.episode import BEFORE_TAKEOVER_STEPS, EpisodeManifest
from learning.core.learners.base import build_learner
from learning.core.records import record_from
from tests.agent.making import column, end, header, parts, tick
from tests.fakes import fake_policy

P, H, T, N = ControlLabel.POLICY, ControlLabel.HUMAN, ControlLabel.TRANSITION, ControlLabel.NONE


def record(spool: Spool, labels: list[ControlLabel]) -> EpisodeManifest:
    writer = EpisodeWriter(spool, header())
    for index, label in enumerate(labels):
        writer.add(tick(index, label))
    manifest = writer.end(end())
    assert manifest is not None
    return manifest


@pytest.fixture
def spool(tmp_path) -> Spool:
    return Spool(tmp_path / "spool")


def test_a_short_episode_is_one_part_with_its_images_and_columns(spool):
    manifest = record(spool, [P] * 30)
    (part,) = parts(spool, manifest)
    assert (manifest.steps, manifest.outcome, manifest.complete) == (30, "success", True)
    np.testing.assert_array_equal(part.array("step"), range(30))
    image = part.image("front", 0)
    assert image is not None
    assert simplejpeg.decode_jpeg(image).shape == (24, 32, 3)
    assert part.image("front", 1) is None
    np.testing.assert_array_equal(part.array("policy_action")[3], [0.5] * 3)


def test_a_long_episode_is_written_in_parts_while_it_runs(spool):
    writer = EpisodeWriter(spool, header())
    for index in range(PART_STEPS * 2 + BEFORE_TAKEOVER_STEPS):
        writer.add(tick(index))
    folder = spool.root / writer._header.episode
    assert len(list(folder.glob("*.arrow"))) == 2
    manifest = writer.end(end())
    assert manifest is not None
    np.testing.assert_array_equal(column(spool, manifest, "step"), range(manifest.steps))


def test_a_very_long_episode_goes_on_in_larger_parts(spool, monkeypatch):
    monkeypatch.setattr(recorder_module, "PART_STEPS", 2)
    monkeypatch.setattr(recorder_module, "LARGE_PART_STEPS", 20)
    monkeypatch.setattr(recorder_module, "MANY_PARTS", 3)
    manifest = record(spool, [P] * 60)
    assert [part.steps for part in manifest.parts] == [2, 2, 2, 20, 20, 14]


@pytest.mark.parametrize("before", [5, 15, 40, PART_STEPS + 3, PART_STEPS + 16, PART_STEPS * 2])
def test_exactly_the_last_policy_steps_before_a_takeover_are_flagged(spool, before):
    manifest = record(spool, [P] * before + [T] * 6 + [H] * 20 + [P] * 10)
    flagged = np.flatnonzero(column(spool, manifest, "before_takeover"))
    first = max(0, before - BEFORE_TAKEOVER_STEPS)
    np.testing.assert_array_equal(flagged, range(first, before))


def test_holding_before_a_takeover_does_not_hide_the_policys_mistake(spool):
    manifest = record(spool, [P] * 120 + [N] * 150 + [T] * 6 + [H] * 5)
    flagged = np.flatnonzero(column(spool, manifest, "before_takeover"))
    np.testing.assert_array_equal(flagged, range(105, 120))


def test_a_second_takeover_flags_only_the_policy_steps_between(spool):
    manifest = record(spool, [P] * 20 + [T] * 6 + [H] * 4 + [P] * 4 + [T] * 6 + [H] * 4)
    flagged = np.flatnonzero(column(spool, manifest, "before_takeover"))
    np.testing.assert_array_equal(flagged, [*range(5, 20), *range(30, 34)])


@pytest.mark.parametrize("autonomous_successes", [False, True])
def test_of_what_the_robot_records_hg_dagger_imitates_the_person_and_nothing_else(
    spool, autonomous_successes
):
    labels = [P] * 20 + [T] * 6 + [H] * 30 + [P] * 9 + [T] * 6 + [N] * 2 + [H] * 4 + [P] * 5
    manifest = record(spool, labels)
    episode = record_from(manifest, parts(spool, manifest), closed_seq=1)
    flagged = [*range(5, 20), *range(56, 65)]
    np.testing.assert_array_equal(np.flatnonzero(episode.before_takeover), flagged)
    options = {"autonomous_successes": autonomous_successes}
    targets = build_learner("hg_dagger", fake_policy(), options).targets(episode)
    np.testing.assert_array_equal(targets, [label == H for label in labels])


def test_an_episode_without_takeover_flags_nothing(spool):
    manifest = record(spool, [P] * 40 + [N] * 10 + [P] * 10)
    assert not column(spool, manifest, "before_takeover").any()


def test_interventions_say_who_had_the_robot_and_with_which_doubt(spool):
    manifest = record(spool, [P] * 20 + [T] * 6 + [H] * 10 + [P] * 5 + [T] * 6 + [H] * 3)
    spans = [(s.start, s.end) for s in manifest.interventions]
    assert spans == [(20, 36), (41, 50)]
    first = manifest.interventions[0]
    assert (first.operator, first.epoch, first.doubt) == ("ada", 1, 0.25)


def test_dead_man_ticks_stay_inside_their_intervention(spool):
    writer = EpisodeWriter(spool, header())
    lease = Lease(epoch=4, holder="bo", holder_kind="scripted")
    for index in range(10):
        writer.add(tick(index))
    for index in range(10, 20):
        still = index in (14, 15)
        label = N if still else H
        writer.add(
            tick(
                index,
                label,
                mode=Mode.TAKEOVER,
                lease=lease,
                dead_man=still,
                command_age_ms=float("nan") if still else 40.0,
            )
        )
    manifest = writer.end(end())
    assert manifest is not None
    (span,) = manifest.interventions
    assert (span.start, span.end, span.operator_kind) == (10, 20, "scripted")
    assert manifest.link.dead_man_ticks == 2
    assert manifest.link.command_age_p50_ms == 40.0
    assert manifest.link.rtt_p50_ms == 4.0


def test_another_lease_is_another_intervention(spool):
    writer = EpisodeWriter(spool, header())
    for index, epoch in enumerate([1, 1, 1, 2, 2]):
        writer.add(tick(index, H, lease=Lease(epoch=epoch, holder=f"op-{epoch}")))
    manifest = writer.end(end())
    assert manifest is not None
    assert [(s.start, s.end, s.operator) for s in manifest.interventions] == [
        (0, 3, "op-1"),
        (3, 5, "op-2"),
    ]


def test_an_episode_without_a_step_leaves_nothing_behind(spool):
    writer = EpisodeWriter(spool, header())
    assert writer.end(end()) is None
    assert spool.head() is None
    assert [p.name for p in spool.root.iterdir()] == ["state"]


def test_the_loop_never_waits_for_a_stalled_encoder_and_the_episode_says_it_is_cut(spool):
    recorder = Recorder(spool, max_backlog=20)
    # The thread is not started: an encoder that makes no progress at all.
    recorder.begin(header())
    for index in range(50):
        recorder.add(tick(index))
    recorder.end(end())
    recorder.start()
    recorder.stop()
    manifest = spool.head()
    assert manifest is not None
    assert manifest.complete is False
    assert manifest.steps < 50


def test_a_disk_that_fails_costs_its_episode_and_the_next_one_is_recorded(tmp_path):
    failing = True

    def reach(step: str) -> None:
        if failing and step.startswith("part"):
            raise OSError(errno.ENOSPC, "No space left on device")

    spool = Spool(tmp_path, reach=reach)
    recorder = Recorder(spool)
    recorder.take(header())
    recorder.take(tick(0))
    recorder.take((end(), True))
    assert "No space left" in recorder.error
    assert spool.head() is None
    failing = False
    for item in (header(), tick(0), (end(), True)):
        recorder.take(item)
    assert recorder.error == ""
    assert spool.depth[0] == 1


def test_a_full_spool_records_nothing_and_says_what_to_do(tmp_path):
    spool = Spool(tmp_path, limit_bytes=1)
    spool.grew(10)
    recorder = Recorder(spool)
    recorder.take(header())
    assert "spool_limit_bytes" in recorder.error


def test_images_that_cannot_be_encoded_do_not_end_the_thread(spool):
    recorder = Recorder(spool)
    recorder.start()
    recorder.begin(header())
    recorder.add(RecordedTick(step=tick(0).step, images={"front": np.zeros((2, 2), np.uint8)}))
    recorder.end(end())
    recorder.begin(header())
    recorder.add(tick(0))
    recorder.end(end())
    recorder.stop()
    assert spool.depth[0] == 1
