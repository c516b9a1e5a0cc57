import numpy as np
import pytest

from fleet.agent.controllers import ChunkController
from tests.fakes import FakeDriver, fake_policy


def run(controller: ChunkController, ticks: int) -> list[int]:
    driver = FakeDriver()
    return [
        controller.propose(driver.read(images=controller.wants_image), "words")[2]
        for _ in range(ticks)
    ]


def test_a_chunk_is_executed_in_part_then_inferred_anew_from_a_fresh_image():
    policy = fake_policy()
    assert run(ChunkController(policy), 10) == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert len(policy.calls) == 3
    assert all("front" in observation.images for observation in policy.calls)
    assert policy.calls[0].instruction == "words"


def test_images_are_asked_for_only_on_ticks_that_infer():
    controller, driver = ChunkController(fake_policy()), FakeDriver()
    wanted = []
    for _ in range(8):
        wanted.append(controller.wants_image)
        controller.propose(driver.read(images=wanted[-1]), "")
    assert wanted == [True, False, False, False] * 2


def test_the_proposal_is_the_chunks_action_at_its_index():
    controller, driver = ChunkController(fake_policy((0.1, 0.2, 0.3))), FakeDriver()
    for index in range(4):
        action, doubt, at = controller.propose(driver.read(images=True), "")
        np.testing.assert_allclose(action, np.array([0.1, 0.2, 0.3]) + 0.01 * index, rtol=1e-5)
        assert (doubt, at) == (0.5, index)
        assert action.dtype == np.float32


def test_a_reset_drops_the_pending_chunk():
    policy = fake_policy()
    controller = ChunkController(policy)
    run(controller, 2)
    controller.reset()
    assert controller.wants_image
    assert run(controller, 1) == [0]
    assert len(policy.calls) == 2


@pytest.mark.parametrize(("execute", "expected"), [(1, 6), (2, 3), (100, 1)])
def test_how_much_of_a_chunk_is_executed_can_be_chosen_up_to_its_length(execute, expected):
    policy = fake_policy(horizon=8)
    run(ChunkController(policy, execute=execute), 6)
    assert len(policy.calls) == expected
