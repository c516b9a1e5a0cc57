import pytest

from fleet.protocol import messages as m
from fleet.protocol.control import DEAD_MAN_S, Controller, Mode
from tests.agent.test_arbiter import TICK_S, Desk


@pytest.mark.parametrize("mode", list(Mode))
def test_a_probe_is_echoed_in_every_mode_and_changes_nothing(mode: Mode):
    desk = Desk()
    desk.reach(mode)
    before = desk.arbiter.remembered
    answer = desk.send(m.Probe(epoch=1, t_client_ms=12.5))
    assert (answer.command, answer.accepted, answer.t_client_ms) == ("Probe", True, 12.5)
    assert desk.arbiter.remembered == before


def test_a_probe_is_no_command_for_the_dead_man():
    desk = Desk()
    desk.reach(Mode.TAKEOVER)
    desk.drive()
    assert desk.tick().controller is Controller.OPERATOR
    for _ in range(int(DEAD_MAN_S / TICK_S) + 1):
        desk.send(m.Probe(epoch=1, t_client_ms=1.0))
        decision = desk.tick()
    assert (decision.controller, decision.action) == (Controller.HOLD, None)
