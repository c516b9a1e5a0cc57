"""A robot's value function: where it comes from, what is wrong with it, and what that costs."""

import math
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fleet.agent import values as values_module
from fleet.agent.values import ValueKeeper
from fleet.agent.valuing import Valuing
from fleet.protocol.episode import sha256_of
from fleet.protocol.spec import Camera, ValueRef
from learning.core.types import Observation
from learning.core.value import ValueConfig, ValueFunction, save_value
from tests.agent.server import Ingest, serving
from tests.fakes import SPEC as SMALL
from tests.fakes import FakeDriver

# Its pictures are large enough for the encoder of a value function.
SPEC = msgspec.structs.replace(SMALL, cameras=(Camera(name="front", width_px=48, height_px=40),))
FITTING = ValueConfig(state_dim=2, width=8, text_buckets=16)
SEEING = msgspec.structs.replace(FITTING, cameras=("front",), image_px=32)


def network(config: ValueConfig = FITTING, *, broken: bool = False) -> ValueFunction:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        value = ValueFunction(config)
    if broken:
        with torch.no_grad():
            value.head[-1].weight.fill_(3e38)
    return value.eval()


def of_another_format(data: bytes) -> bytes:
    metadata = {"value": msgspec.json.encode(FITTING).decode(), "format": "2"}
    return bytes(save(load(data), metadata))


GOOD = save_value(network())


class Keeping:
    """A keeper whose thread is the test, and a server that has every artifact."""

    def __init__(self, folder, server: Ingest) -> None:
        self.folder, self.server = folder, server
        self.keeper = ValueKeeper(folder, SPEC, server=server.url, token="tok")

    def ref(self, number: int, artifact: bytes = GOOD, **fields: object) -> ValueRef:
        url = f"/api/values/{number}/weights"
        self.server.files[url] = artifact
        told = {"sha256": sha256_of(artifact), "correlation": 0.7} | fields
        return ValueRef(number=number, url=url, size_bytes=len(artifact), **told)

    def offer(self, number: int, artifact: bytes = GOOD, **fields: object) -> None:
        self.keeper.offer(self.ref(number, artifact, **fields))
        self.keeper.work()
        self.keeper.take()

    @property
    def number(self) -> int | None:
        return self.keeper.status().number

    @property
    def reason(self) -> str:
        return self.keeper.status().reason


@pytest.fixture
def keeping(tmp_path) -> Iterator[Keeping]:
    with serving() as server:
        keeping = Keeping(tmp_path / "values", server)
        yield keeping
        keeping.keeper.stop()


def test_one_that_fits_is_fetched_and_computed_from_the_next_episode_on(keeping):
    keeping.keeper.offer(keeping.ref(1))
    assert (keeping.number, keeping.reason) == (None, "value function 1 is on its way")
    keeping.keeper.work()
    assert keeping.number is None
    keeping.keeper.take()
    status = keeping.keeper.status()
    assert (status.number, status.correlation, status.reason) == (1, 0.7, "")
    assert status.told == sha256_of(GOOD)
    assert keeping.server.headers[-1]["Authorization"] == "Bearer tok"
    assert keeping.keeper.ranks(0.7)
    assert not keeping.keeper.ranks(0.71)


REFUSED = {
    "damaged": ({"artifact": GOOD[:-1] + b"x", "sha256": sha256_of(GOOD)}, "sha256 is"),
    "no value function": ({"artifact": b"\x00" * 64}, "not a value function"),
    "of another format": ({"artifact": of_another_format(GOOD)}, "format is 2, this code reads 1"),
    "of another embodiment": (
        {"artifact": save_value(network(ValueConfig(state_dim=7, width=8, text_buckets=16)))},
        "for 7 state components, the robot has 2",
    ),
    "with a camera the robot lacks": (
        {"artifact": save_value(network(msgspec.structs.replace(SEEING, cameras=("wrist",))))},
        "the robot has no camera wrist",
    ),
    "for larger pictures": (
        {"artifact": save_value(network(msgspec.structs.replace(SEEING, image_px=64)))},
        "smaller than 64 px",
    ),
    "without a finite value": (
        {"artifact": save_value(network(broken=True))},
        "its value is not finite",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_one_is_said_and_the_robot_goes_on_with_what_it_has(keeping, case):
    fields, why = REFUSED[case]
    keeping.offer(1, **fields)
    assert keeping.number is None
    assert keeping.reason.startswith("value function 1 was refused: ")
    assert why in keeping.reason
    seen = save_value(network(SEEING))
    keeping.offer(2, seen)
    assert (keeping.number, keeping.reason) == (2, "")
    keeping.offer(1, **fields)
    assert keeping.number == 2
    assert why in keeping.reason


def test_one_that_takes_longer_than_half_a_tick_is_refused(keeping, monkeypatch):
    times = iter(range(100))
    monkeypatch.setattr(values_module.time, "thread_time", lambda: 0.03 * next(times))
    keeping.offer(1)
    assert "a value takes 30 ms, too long for a tick of 50 ms" in keeping.reason


def test_a_way_that_is_cut_is_tried_again_and_resumed(keeping, monkeypatch):
    monkeypatch.setattr(values_module, "backoff_s", lambda failures, rng: 0.0)
    keeping.server.cut_after_bytes = 100
    keeping.offer(1)
    assert keeping.number == 1
    assert keeping.server.ranges == [None, "bytes=100-"]


def test_a_restarted_robot_computes_the_one_on_its_disk_and_not_a_damaged_one(keeping):
    keeping.offer(1)
    again = Keeping(keeping.folder, keeping.server)
    assert again.number == 1
    again.keeper.offer(keeping.ref(1))
    assert (again.keeper._wanted, again.reason) == (None, "")
    for path in keeping.folder.glob("*.safetensors"):
        path.write_bytes(GOOD[:-1] + b"x")
    assert Keeping(keeping.folder, keeping.server).number is None


def test_a_robot_that_is_told_of_none_computes_none_also_after_a_restart(keeping):
    keeping.offer(1)
    again = Keeping(keeping.folder, keeping.server)
    again.keeper.offer(None)
    again.keeper.take()
    assert again.keeper.status().number is None
    assert again.keeper.status().told == ""


def test_one_that_fails_while_it_is_computed_is_dropped_and_never_tried_again(keeping):
    keeping.offer(1)
    active = keeping.keeper.active
    assert active is not None
    with torch.no_grad():
        active.network.head[-1].bias.fill_(float("nan"))
    valuing, reading = Valuing(keeping.keeper), FakeDriver().read(images=True)
    assert valuing.begin() is active
    valuing.after(reading, "reach", 0)
    assert math.isnan(valuing.after(reading, "reach", 1))
    assert (keeping.number, keeping.reason) == (
        None,
        "value function 1 was refused: its value is not finite",
    )
    keeping.keeper.offer(None)
    keeping.offer(1)
    assert keeping.number is None


def test_a_value_is_of_what_the_last_inference_saw_and_needs_its_pictures(keeping):
    keeping.offer(1, save_value(network(SEEING)))
    valuing, without = Valuing(keeping.keeper), FakeDriver().read(images=False)
    valuing.begin()
    with_pictures = replace(without, images={"front": np.full((40, 48, 3), 90, np.uint8)})
    assert math.isnan(valuing.after(without, "reach", 0))
    known = [valuing.after(with_pictures, "reach", i) for i in (1, 0, 1, 2)]
    assert all(math.isnan(value) for value in known[:2])
    assert (
        known[2]
        == known[3]
        == network(SEEING).value_at(Observation(with_pictures.images, with_pictures.state, "reach"))
    )
    assert valuing.after(without, "reach", 0) == valuing.after(without, "reach", 1) == known[3]
    # Nothing is proposed: nobody acts, and nothing is said of what comes.
    assert math.isnan(valuing.after(without, "reach", -1))
    assert keeping.keeper.status().took_ms > 0
