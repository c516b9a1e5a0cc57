from argparse import Namespace
from pathlib import Path

from scripts import processes


def robots_of(monkeypatch, *, robots: int, cores: int) -> list[str]:
    monkeypatch.setattr(processes.os, "cpu_count", lambda: cores)
    options = Namespace(var=Path("/tmp/system"), robots=robots, operators=0)
    lines = processes.processes(options, 8000)
    return [line for name, line in lines.items() if name.startswith("robot-")]


def test_robots_come_first_only_where_they_leave_half_of_the_machine_free(monkeypatch):
    few = robots_of(monkeypatch, robots=4, cores=2)
    many = robots_of(monkeypatch, robots=5, cores=2)
    assert len(few) == 4
    assert all("--priority realtime" in line for line in few)
    assert len(many) == 5
    assert all("--priority normal" in line for line in many)


def test_robots_of_one_machine_take_their_pictures_in_turns(monkeypatch):
    lines = robots_of(monkeypatch, robots=4, cores=2)
    for line, phase in zip(lines, ("0.000", "0.250", "0.500", "0.750"), strict=True):
        assert f"--phase {phase}" in line
