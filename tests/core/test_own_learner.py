from typing import Annotated

import msgspec
import numpy as np
import pytest
import torch
from msgspec import Meta

from learning.core.learners import base
from learning.core.learners.base import Learner, LearnerState, UpdateResult, register
from learning.core.parallel import mean_gradients
from tests.core.making import CONFIG, Store
from tests.core.test_trainer import trainer_of


class SgdConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rate: Annotated[float, Meta(gt=0, le=1)] = 0.05


@pytest.fixture
def _own(monkeypatch):
    """A learner that owes nothing to the ones that ship, known only while a test runs."""
    monkeypatch.setattr(base, "_registry", dict(base._registry))

    @register("own")
    class OwnLearner(Learner):
        Config = SgdConfig

        def __init__(self, policy, config):
            self._policy, self._rate, self._steps = policy, config.rate, 0

        @property
        def policy(self):
            return self._policy.eval()

        def targets(self, record):
            return np.full(len(record), record.outcome == "success")

        def samples(self, record):
            return self.targets(record) & (np.arange(len(record)) % 2 == 0)

        def update(self, batch):
            self._policy.train().zero_grad()
            loss = self._policy.loss(batch)
            loss.mean().backward()
            applied = mean_gradients(list(self._policy.parameters()), loss)
            if applied:
                with torch.no_grad():
                    for parameter in self._policy.parameters():
                        parameter -= self._rate * parameter.grad
                self._steps += 1
            return UpdateResult(loss.detach(), applied, {"rate": self._rate})

        def state(self):
            return LearnerState(dict(self._policy.state_dict()), {"steps": self._steps})

        def load_state(self, state):
            self._policy.load_state_dict(state.tensors)
            self._steps = state.counters["steps"]


@pytest.mark.usefixtures("_own")
def test_a_learner_of_ones_own_trains_and_resumes_through_the_real_trainer():
    store = Store()
    records = [
        store.make(modes=(0,) * 30, outcome=outcome, seed=i, closed_seq=i + 1)
        for i, outcome in enumerate(("success", "failure", "success"))
    ]
    whole = trainer_of(records, store, CONFIG, algorithm="own")
    assert len(whole.buffer) == 30
    losses = [whole.step().loss for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert whole.step().scalars == {"rate": 0.05}
    again = trainer_of(records, store, CONFIG, algorithm="own", weights=9, seed=9)
    again.restore(whole.checkpoint())
    assert [again.step().loss for _ in range(3)] == [whole.step().loss for _ in range(3)]
    assert again.learner.state().counters == {"steps": 64}


@pytest.mark.usefixtures("_own")
def test_its_options_are_checked_and_kept():
    from learning.core.learners.base import UnknownLearner, build_learner
    from tests.core.making import TinyPolicy

    assert build_learner("own", TinyPolicy(CONFIG), {"rate": 0.5}).options == {"rate": 0.5}
    with pytest.raises(UnknownLearner, match="rate"):
        build_learner("own", TinyPolicy(CONFIG), {"rate": -1.0})
