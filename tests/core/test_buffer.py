import tracemalloc
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import simplejpeg

from fleet.protocol.episode import EpisodeManifest
from fleet.protocol.spec import Camera
from learning.core import payload
from learning.core.policies.base import PolicyConfig
from learning.core.records import NotTrainable, PartSpan, record_from
from learning.core.text import tokenize
from tests.core.making import BLIND, SPEC, EveryStep, Store, buffer_of, picture


def rng():
    return np.random.default_rng(0)


def row_at(buffer, step, episode=0):
    starts = buffer._first_row.values
    return int(starts[episode]) + step


def test_a_sample_is_what_was_seen_and_the_actions_executed_from_there():
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 30)])
    batch = buffer.gather(np.array([row_at(buffer, 5)]), rng())
    assert batch.state.tolist() == [[5.0] * 4]
    assert batch.images.shape == (1, 2, 3, 16, 16)
    assert batch.images[0, :, 0, 0, 0].tolist() == pytest.approx([5, 45], abs=1)
    assert batch.action[0, :, 0].tolist() == pytest.approx([i / 1000 for i in range(5, 13)])
    assert batch.mask.all()
    assert batch.tokens.tolist() == [tokenize("reach the red cube").tolist()]


def test_a_chunk_ends_with_its_episode_and_never_reaches_into_the_next():
    store = Store()
    records = [store.make(modes=(1,) * 10, seed=1), store.make(modes=(1,) * 10, seed=2)]
    buffer = buffer_of(store, records)
    batch = buffer.gather(np.array([row_at(buffer, 7), row_at(buffer, 9)]), rng())
    assert batch.mask.int().tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]]
    assert (batch.action[~batch.mask] == 0).all()
    assert batch.action[0, :3, 0].tolist() == pytest.approx([0.007, 0.008, 0.009])


def test_a_chunk_ends_at_the_first_step_that_is_no_target_and_does_not_go_on_after_it():
    class Odd(EveryStep):
        def targets(self, record):
            return record.control_mode == 1

    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1, 1, 1, 0, 1, 1, 0, 0, 1, 1))], rules=Odd())
    batch = buffer.gather(np.array([row_at(buffer, 1), row_at(buffer, 4)]), rng())
    assert batch.mask.int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 0]]
    assert len(buffer) == 7


@pytest.mark.parametrize("steps_per_part", [1, 3, 7, 50])
def test_a_chunk_crosses_parts_of_its_episode(steps_per_part):
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 20, steps_per_part=steps_per_part)])
    batch = buffer.gather(np.arange(20), rng())
    for step in range(20):
        count = min(8, 20 - step)
        assert batch.mask[step].sum() == count
        expected = [(step + i) / 1000 for i in range(count)]
        assert batch.action[step, :count, 0].tolist() == pytest.approx(expected)
        assert batch.state[step, 0] == step


def test_every_random_chunk_stays_within_targets_of_one_episode():
    class Human(EveryStep):
        def targets(self, record):
            return record.control_mode == 1

    generator = rng()
    store = Store()
    records = [
        store.make(
            modes=tuple(generator.integers(0, 3, 37).tolist()),
            seed=seed,
            task=f"t{seed % 3}",
            steps_per_part=11,
            purpose="demonstration" if seed % 2 else "train",
        )
        for seed in range(12)
    ]
    buffer = buffer_of(store, records, rules=Human())
    task, online = generator.integers(0, 3, 400), generator.random(400) < 0.5
    rows = buffer.draw(task, online, generator)
    batch = buffer.gather(rows, generator)
    assert (batch.task.numpy() == task).all()
    assert (batch.online.numpy() == online).all()
    for i, row in enumerate(rows):
        record, step = records[row // 37], row % 37
        assert record.task == buffer.tasks[task[i]]
        human = np.append(record.control_mode[step : step + 8] == 1, [False] * 8)[:8]
        assert batch.mask[i].tolist() == np.logical_and.accumulate(human).tolist()


def test_each_sample_of_a_stratum_is_drawn_equally_often():
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 10)])
    rows = buffer.draw(np.zeros(20_000, int), np.ones(20_000, bool), rng())
    counts = np.bincount(rows, minlength=10)
    assert counts.min() > 1850
    assert counts.max() < 2150


def test_an_episode_added_twice_counts_once():
    store = Store()
    record = store.make(closed_seq=7)
    buffer = buffer_of(store)
    assert buffer.add(record)
    before = buffer.stats()
    assert not buffer.add(record)
    assert buffer.stats() == before
    assert buffer.cursor == 7
    assert record.uid in buffer


@pytest.mark.parametrize("wrong", [{"purpose": "eval"}, {"complete": False}])
def test_held_out_and_incomplete_episodes_never_enter(wrong):
    store = Store()
    buffer = buffer_of(store)
    with pytest.raises(NotTrainable):
        buffer.add(store.make(**wrong))
    assert len(buffer) == 0
    assert buffer.stats().frames == 0


def test_demonstrations_are_offline_and_everything_else_is_online():
    store = Store()
    records = [store.make(purpose="demonstration", seed=1), store.make(purpose="train", seed=2)]
    buffer = buffer_of(store, records)
    assert buffer.stats().samples == {("reach", False): 20, ("reach", True): 20}
    assert buffer.size(0, online=False) == 20


def test_steps_without_images_are_no_samples_of_a_policy_that_sees():
    store = Store()
    record = store.make(modes=(1,) * 10, images=[i % 2 == 0 for i in range(10)])
    assert len(buffer_of(store, [record])) == 5
    assert len(buffer_of(store, [record], config=BLIND)) == 10
    batch = buffer_of(store, [record], config=BLIND).gather(np.array([1]), rng())
    assert batch.images.shape == (1, 0, 3, 16, 16)


def test_wordings_are_drawn_at_random_and_come_from_the_task_of_the_sample():
    store = Store()
    wordings = ("open the door", "pull the door open", "door please")
    records = [
        store.make(task="door", instruction=wordings[0], paraphrases=wordings[1:], seed=1),
        store.make(task="reach", seed=2),
    ]
    buffer = buffer_of(store, records)
    batch = buffer.gather(np.zeros(300, np.int64), rng())
    drawn = [tuple(tokens) for tokens in batch.tokens.tolist()]
    for words in wordings:
        assert 60 < drawn.count(tuple(tokenize(words).tolist())) < 140
    other = buffer.gather(np.array([25]), rng())
    assert other.tokens.tolist() == [tokenize("reach the red cube").tolist()]


def test_the_same_generator_gives_the_same_batch():
    store = Store()
    buffer = buffer_of(store, [store.make(paraphrases=("a", "b"))])
    rows = np.arange(12)
    first, second = buffer.gather(rows, rng()), buffer.gather(rows, rng())
    for name in first.__slots__:
        assert (getattr(first, name) == getattr(second, name)).all()


def test_payload_is_opened_when_sampled_and_decoded_once():
    store = Store()
    buffer = buffer_of(store, [store.make()])
    assert store.opened == []
    cold = buffer.gather(np.arange(10), rng())
    warm = buffer.gather(np.arange(10), rng())
    assert len(store.opened) == 1
    assert (cold.images == warm.images).all()
    stats = buffer.stats()
    assert (stats.cache_misses, stats.cache_hits) == (10, 10)


def read_in_turn(store, count, **options):
    """Read a step of each of `count` episodes without cameras, three times around."""
    records = [store.make(seed=seed, images=False) for seed in range(count)]
    buffer = buffer_of(store, records, config=BLIND, **options)
    for step in range(3):
        rows = np.array([row_at(buffer, step, episode) for episode in range(count)])
        assert buffer.gather(rows, rng()).state[:, 0].tolist() == [step] * count


def test_a_part_is_opened_once_for_its_states_however_few_may_stay_open(monkeypatch):
    monkeypatch.setattr(payload, "MAX_OPEN_PARTS", 2)
    store = Store()
    read_in_turn(store, 6)
    assert len(store.opened) == 6


def test_states_kept_are_bounded_and_read_again_when_they_had_to_go(monkeypatch):
    # Four floats each of state and action in twenty steps: room for two parts of six.
    monkeypatch.setattr(payload, "MIN_COLUMN_BYTES", 2 * 20 * 8 * 4)
    store = Store()
    read_in_turn(store, 6, cache_bytes=1)
    assert len(store.opened) == 18


def test_the_decoded_cache_stays_bounded_and_still_gives_the_right_pictures():
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 60)], cache_bytes=20_000)
    generator = rng()
    for _ in range(40):
        rows = generator.integers(0, 60, 25)
        batch = buffer.gather(rows, generator)
        assert batch.state[:, 0].tolist() == rows.tolist()
        grey = batch.images[:, 0, 0, 0, 0].numpy().astype(int)
        assert np.abs(grey - rows).max() <= 1
        assert buffer.stats().cached_bytes <= 20_000
    assert buffer.stats().cache_hits > 0


def test_the_clock_keeps_what_is_used_and_drops_what_is_not():
    store = Store()
    buffer = buffer_of(store, [store.make(modes=(1,) * 60)], cache_bytes=20_000)
    generator = rng()
    for other in range(1, 60):
        buffer.gather(np.array([0, other]), generator)
    assert buffer.stats().cache_hits == 58


def test_the_index_of_real_sized_episodes_is_below_a_hundredth_of_their_payload():
    generator = rng()
    noisy = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    cameras = tuple(Camera(name=name, width_px=128, height_px=128) for name in ("a", "b"))
    spec = msgspec.structs.replace(SPEC, cameras=cameras)
    jpegs = [simplejpeg.encode_jpeg(noisy, quality=q) for q in range(70, 90)]
    store = Store()
    config = PolicyConfig(kind="tiny", state_dim=4, action_dim=4, cameras=("a", "b"))
    modes = (0,) * 40 + (1,) * 60
    records = [
        store.make(modes=modes, seed=seed, spec=spec, jpegs=jpegs, task=f"t{seed % 6}")
        for seed in range(60)
    ]
    buffer = buffer_of(store, config=config)
    empty = buffer.stats().index_bytes
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for record in records:
        buffer.add(record)
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    stats = buffer.stats()
    assert stats.frames == 6000
    assert stats.payload_bytes == sum(record.payload_bytes for record in records)
    assert stats.index_bytes <= 0.01 * stats.payload_bytes
    # What is reported is what is taken, and neither is next to nothing.
    assert 3 * stats.frames < taken <= 0.01 * stats.payload_bytes
    assert stats.index_bytes - empty == pytest.approx(taken, rel=0.25)


def test_a_hash_that_ends_in_zeros_is_read_back_whole():
    store = Store()
    record = store.make(modes=(1,) * 4)
    (span,) = record.parts
    odd = span.sha256[:56] + "00000000"
    store.bytes[odd] = store.bytes[span.sha256]
    record = replace(record, parts=(PartSpan(odd, 0, 4),))
    buffer = buffer_of(store, [record])
    buffer.gather(np.array([0]), rng())
    assert store.opened == [odd]


def test_parts_of_another_episode_are_refused():
    store = Store()
    record = store.make()
    part = store.open_part(record.parts[0].sha256)
    manifest = EpisodeManifest(
        header=part.header, ended_wall_ns=1, steps=0, outcome="success", judge="robot", parts=()
    )
    with pytest.raises(NotTrainable):
        record_from(manifest, [part], closed_seq=1)


def test_an_image_that_cannot_be_decoded_empties_its_mask_and_nothing_else(caplog):
    store = Store()
    jpegs = [b"rubbish", *[picture(9, 32)] * 19]
    buffer = buffer_of(store, [store.make(modes=(1,) * 12, jpegs=jpegs)])
    for _ in range(2):
        batch = buffer.gather(np.array([3, 0, 5]), rng())
        assert batch.mask.any(1).tolist() == [True, False, True]
        assert (batch.images[1] == 0).all()
        assert batch.state[:, 0].tolist() == [3.0, 0.0, 5.0]
    assert buffer.stats().unreadable == 2
    assert "not a JPEG" in caplog.text
