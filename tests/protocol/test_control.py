from itertools import product

from fleet.protocol.control import (
    TRANSITIONS,
    Event,
    Lease,
    Mode,
    fences,
    next_mode,
)


def test_the_table_answers_every_pair_and_only_its_own_pairs_happen():
    for mode, event in product(Mode, Event):
        assert next_mode(mode, event) == TRANSITIONS.get((mode, event))


def test_a_stop_works_in_every_mode_and_only_a_release_ends_it():
    for mode in Mode:
        assert next_mode(mode, Event.STOP) is Mode.STOPPED
    leaving = {
        event for event in Event if next_mode(Mode.STOPPED, event) not in (None, Mode.STOPPED)
    }
    assert leaving == {Event.RELEASE}
    assert next_mode(Mode.STOPPED, Event.RELEASE) is Mode.HOLDING


def test_only_a_resume_or_a_hand_back_wakes_the_policy():
    waking = {
        (mode, event)
        for (mode, event), after in TRANSITIONS.items()
        if after is Mode.AUTONOMOUS and mode is not Mode.AUTONOMOUS
    }
    assert waking == {
        (Mode.HOLDING, Event.RESUME),
        (Mode.HANDOVER, Event.HAND_BACK),
        (Mode.TAKEOVER, Event.HAND_BACK),
    }


def test_losing_a_lease_always_leaves_the_robot_holding():
    afters = {after for (_, event), after in TRANSITIONS.items() if event is Event.LEASE_LOST}
    assert afters == {Mode.HOLDING}


def test_takeover_is_reached_through_the_handover_only():
    into = {pair for pair, after in TRANSITIONS.items() if after is Mode.TAKEOVER}
    assert into == {(Mode.HANDOVER, Event.HANDOVER_ELAPSED)}


def test_only_older_epochs_are_fenced():
    assert fences(5, 4)
    assert not fences(5, 5)
    assert not fences(5, 6)
    assert Lease(epoch=1, holder="ada").holder_kind == "human"
