import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fleet.agent.safety import SafetyGate
from tests.fakes import SPEC

LOW, HIGH = np.asarray(SPEC.action_low), np.asarray(SPEC.action_high)


@given(arrays(np.float32, 3, elements=st.floats(width=32)), st.booleans())
def test_whatever_comes_in_what_goes_out_is_finite_and_inside_the_limits(action, slew):
    gate = SafetyGate(SPEC)
    for _ in range(3):
        applied = gate.gate(action, slew=slew)
        assert applied.dtype == np.float32
        assert np.isfinite(applied).all()
        assert (applied >= LOW).all()
        assert (applied <= HIGH).all()


@given(st.lists(arrays(np.float32, 3, elements=st.floats(-5, 5, width=32)), max_size=8))
def test_slewed_actions_never_change_faster_than_the_spec_says(actions):
    gate = SafetyGate(SPEC)
    for action in actions:
        before = gate.applied
        after = gate.gate(action, slew=True)
        assert (np.abs(after - before) <= np.asarray(SPEC.action_slew) + 1e-6).all()


def test_zero_motion_keeps_the_gripper_where_it_was_commanded():
    gate = SafetyGate(SPEC)
    gate.gate(np.array([0.3, -0.3, 0.8], np.float32))
    np.testing.assert_allclose(gate.zero_motion(), [0, 0, 0.8])


@pytest.mark.parametrize("action", [np.full(3, np.nan, np.float32), np.zeros(2, np.float32)])
def test_an_action_that_is_none_becomes_zero_motion(action):
    gate = SafetyGate(SPEC)
    gate.gate(np.array([1, 1, -0.5], np.float32))
    np.testing.assert_allclose(gate.gate(action), [0, 0, -0.5])


def test_changing_the_returned_action_does_not_change_what_the_gate_remembers():
    gate = SafetyGate(SPEC)
    gate.gate(np.array([0.5, 0, 0], np.float32))[:] = 9
    np.testing.assert_allclose(gate.applied, [0.5, 0, 0])


def test_a_new_scene_starts_at_rest():
    gate = SafetyGate(SPEC)
    gate.gate(np.ones(3, np.float32))
    gate.rest()
    np.testing.assert_array_equal(gate.applied, 0)
