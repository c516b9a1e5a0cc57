import msgspec
import numpy as np
import pytest
import torch

from learning.core.decode import stack_images
from learning.core.normalize import LIMIT, MIN_STD, state_statistics
from learning.core.policies.base import (
    BadArtifact,
    Policy,
    PolicyConfig,
    build_policy,
    load_policy,
    save_policy,
)
from learning.core.policies.encoders import random_shift
from learning.core.text import MAX_WORDS, tokenize, words_of
from learning.core.types import Batch, Observation

CAMERAS = ("front", "wrist")
IMAGE = PolicyConfig(
    kind="image",
    state_dim=4,
    action_dim=4,
    cameras=CAMERAS,
    action_low=(-1.0,) * 4,
    action_high=(1.0,) * 4,
)
STATE = msgspec.structs.replace(IMAGE, kind="state", state_dim=21, cameras=(), width=64)


@pytest.fixture(autouse=True)
def _seeded():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=[IMAGE, STATE], ids=["image", "state"])
def policy(request) -> Policy:
    return build_policy(request.param)


def batch_for(config: PolicyConfig, n: int = 6) -> Batch:
    generator = np.random.default_rng(1)
    px = config.image_px
    words = ["open the drawer", "close the box", "hit the nail"]
    images = generator.integers(0, 256, (n, len(config.cameras), 3, px, px), np.uint8)
    return Batch(
        images=torch.from_numpy(images),
        state=torch.from_numpy(generator.normal(size=(n, config.state_dim)).astype(np.float32)),
        tokens=torch.from_numpy(np.stack([tokenize(words[i % 3]) for i in range(n)])),
        action=torch.from_numpy(generator.uniform(-1, 1, (n, 8, 4)).astype(np.float32)),
        mask=torch.ones(n, 8, dtype=torch.bool),
        task=torch.zeros(n, dtype=torch.long),
        online=torch.zeros(n, dtype=torch.bool),
        row=torch.arange(n),
    )


def observation_for(config: PolicyConfig, instruction: str = "open the drawer") -> Observation:
    generator = np.random.default_rng(2)
    return Observation(
        images={c: generator.integers(0, 256, (128, 128, 3), np.uint8) for c in config.cameras},
        state=generator.normal(size=config.state_dim).astype(np.float32),
        instruction=instruction,
    )


def test_a_policy_learns_one_batch_by_heart(policy):
    batch = batch_for(policy.config)
    optimiser = torch.optim.AdamW(policy.parameters(), 3e-3)
    first = policy.loss(batch).mean().item()
    for _ in range(60):
        # In eval mode nothing is augmented, so one batch can be fitted exactly.
        loss = policy.eval().loss(batch).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2 * first


def test_masked_steps_of_a_chunk_do_not_count(policy):
    batch = batch_for(policy.config)
    batch.mask[:, 3:] = False
    before = policy.eval().loss(batch)
    batch.action[:, 3:] = 100.0
    assert torch.equal(policy.loss(batch), before)
    batch.mask[0] = False
    assert policy.loss(batch)[0] == 0


def test_an_artifact_acts_as_the_policy_it_was_saved_from(policy):
    states = np.random.default_rng(0).normal(3, 2, (9, policy.config.state_dim))
    policy.normalizer.fit(*state_statistics([states]))
    again = load_policy(save_policy(policy.eval()))
    observation = observation_for(policy.config)
    assert again.config == policy.config
    assert torch.equal(again.act(observation)[0], policy.act(observation)[0])


def test_the_shipped_size_fits_inline_in_an_announcement():
    from fleet.protocol.messages import MAX_INLINE_WEIGHTS_BYTES

    assert len(save_policy(build_policy(IMAGE))) <= MAX_INLINE_WEIGHTS_BYTES


@pytest.mark.parametrize(
    "rubbish",
    [b"", b"\x00" * 7, b"not a policy at all", b"\xff" * 64, (8).to_bytes(8, "little") + b"{}" * 4],
)
def test_bytes_that_are_no_artifact_are_refused(rubbish):
    with pytest.raises(BadArtifact):
        load_policy(rubbish)


def test_a_cut_or_foreign_or_infinite_artifact_is_refused(policy):
    artifact = save_policy(policy)
    with pytest.raises(BadArtifact):
        load_policy(artifact[:-10])
    with pytest.raises(BadArtifact, match="no policy of kind"):
        load_policy(artifact.replace(rb":\"" + policy.config.kind.encode(), rb":\"" + b"x" * 5))
    with torch.no_grad():
        next(policy.parameters())[0] = float("nan")
    with pytest.raises(BadArtifact, match="not finite"):
        load_policy(save_policy(policy))


def test_proposals_stay_inside_the_limits(policy):
    with torch.no_grad():
        policy.head[-1].bias.copy_(torch.tensor([9.0, -9.0, 0.5, 9.0] * 8))
    chunk, doubt = policy.eval().act(observation_for(policy.config))
    assert chunk.shape == (8, 4)
    assert chunk.dtype == torch.float32
    assert float(chunk.max()) == 1.0
    assert float(chunk.min()) == -1.0
    assert np.isnan(doubt)


def test_acting_sees_exactly_what_training_sees():
    policy = build_policy(IMAGE).eval()
    observation = observation_for(IMAGE, "close the box")
    chunk, _ = policy.act(observation)
    images = torch.from_numpy(stack_images(observation.images, CAMERAS, 64))[None]
    batch = batch_for(IMAGE, 1)
    batch.images, batch.state = images, torch.from_numpy(observation.state)[None]
    batch.tokens = torch.from_numpy(tokenize("close the box").copy())[None]
    batch.action = chunk[None].clone()
    assert policy.loss(batch).item() < 1e-9


def test_a_policy_reads_its_words_and_both_cameras():
    policy = build_policy(IMAGE)
    optimiser = torch.optim.AdamW(policy.parameters(), 1e-3)
    for _ in range(5):  # FiLM starts as the identity
        optimiser.zero_grad()
        policy.eval().loss(batch_for(IMAGE)).mean().backward()
        optimiser.step()
    observation = observation_for(IMAGE)
    chunk, _ = policy.act(observation)
    assert not torch.equal(policy.act(observation_for(IMAGE, "hit the nail"))[0], chunk)
    for camera in CAMERAS:
        dark = {**observation.images, camera: np.zeros((128, 128, 3), np.uint8)}
        changed = Observation(images=dark, state=observation.state, instruction="open the drawer")
        assert not torch.equal(policy.act(changed)[0], chunk)


def test_padding_changes_nothing(policy):
    batch = batch_for(policy.config)
    loss = policy.eval().loss(batch)
    batch.tokens = torch.nn.functional.pad(batch.tokens, (0, 5))
    torch.testing.assert_close(policy.loss(batch), loss)


def test_augmentation_repeats_with_the_generator_and_only_in_training(policy):
    batch = batch_for(policy.config)

    def loss(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return policy.loss(batch)

    policy.train()
    assert torch.equal(loss(1), loss(1))
    assert not torch.equal(loss(1), loss(2))
    policy.eval()
    assert torch.equal(loss(1), loss(2))


def test_a_random_shift_moves_pictures_whole_and_repeats_their_border():
    at = torch.arange(16 * 16).reshape(1, 1, 16, 16).to(torch.uint8).repeat(32, 1, 1, 1)
    shifted = random_shift(at, 4)
    assert shifted.shape == at.shape
    assert len({picture.numpy().tobytes() for picture in shifted}) > 20
    for picture in shifted[:, 0].int():
        inner = picture[4:12, 4:12]
        assert (inner[:, 1:] - inner[:, :-1] == 1).all()
        assert (inner[1:] - inner[:-1] == 16).all()
    constant = torch.full((2, 3, 16, 16), 7, dtype=torch.uint8)
    assert torch.equal(random_shift(constant, 4), constant)


def test_words_become_stable_tokens_padded_with_zero():
    assert words_of("Open the Drawer, please!") == ["open", "the", "drawer", "please"]
    tokens = tokenize("open the drawer")
    assert tokens.dtype == np.int64
    assert tokens.shape == (MAX_WORDS,)
    assert (tokens[:3] > 0).all()
    assert (tokens[3:] == 0).all()
    # Fixed for ever: shipped weights were trained with these numbers.
    assert tokens[:3].tolist() == [279, 438, 383]
    assert tokenize("OPEN  the drawer.").tolist() == tokens.tolist()
    assert tokenize("").tolist() == [0] * MAX_WORDS
    assert (tokenize("word " * 40) > 0).all()


def test_state_statistics_keep_still_components_finite():
    states = [np.array([[0.0, 5.0], [2.0, 5.0]], np.float32), np.array([[1.0, 5.0]], np.float32)]
    mean, std = state_statistics(states)
    np.testing.assert_allclose(mean, [1.0, 5.0])
    np.testing.assert_allclose(std, [np.sqrt(2 / 3), MIN_STD], rtol=1e-6)
    policy = build_policy(msgspec.structs.replace(STATE, state_dim=2))
    policy.normalizer.fit(mean, std)
    scaled = policy.normalizer(torch.tensor([[1.0, 5.0], [1.0, 1e9]]))
    assert scaled.tolist() == [[0.0, 0.0], [0.0, LIMIT]]
    with pytest.raises(ValueError, match="no states"):
        state_statistics([])
