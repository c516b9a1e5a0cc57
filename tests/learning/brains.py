"""Learners small enough for tests: a state policy of a few thousand weights. Loads torch."""

from learning.core.policies.base import PolicyConfig, build_policy, save_policy
from learning.models import Learner
from learning.services.learners import seed_learner, start_learner
from learning.services.policies import import_version
from tests.learning.making import SPEC

CONFIG = PolicyConfig(
    kind="state",
    state_dim=len(SPEC.state_names),
    action_dim=len(SPEC.action_names),
    horizon=4,
    execute=2,
    width=16,
    action_low=SPEC.action_low,
    action_high=SPEC.action_high,
)


def make_artifact(seed: int = 0) -> bytes:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return save_policy(build_policy(CONFIG).eval())


def make_learner(name: str = "tiny", *, started: bool = True, **recipe: object) -> Learner:
    """A learner with a base policy as version 1; publishes every step unless told otherwise."""
    config = {"batch_size": 8, "publish_steps": 5, "publish_every_s": 0.0, **recipe}
    learner = seed_learner(name, config)
    import_version(learner, artifact=make_artifact(), gate={"imported": "test"})
    if started:
        start_learner(name)
    learner.refresh_from_db()
    return learner
