import pytest

from learning.experiments.vitals import growth, process_name


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("python -m daphne --port 1 sop_web.asgi:application", "web"),
        ("python -m celery -A sop_web worker --queues learner --pool solo", "learner"),
        ("python -m celery -A sop_web worker --queues default", "worker"),
        ("python -m celery -A sop_web beat --pidfile=", "beat"),
        ("python -m fleet.agent --config /v/robots/robot-3.json --server x", "robot-3"),
        ("python -m fleet.agent.teleop.scripted --count 2", "operators"),
        ("/x/redis-server 127.0.0.1:5", "redis"),
        ("/bin/sh -c while true; do python -m fleet.agent --config robots/robot-1.json", None),
        ("python -m somebody.else", None),
    ],
)
def test_a_command_line_names_its_process(line, name):
    assert process_name(line.split()) == name


def looks(*mb, pid=7):
    return [{"rss_mb": {"web": value}, "pids": {"web": pid}} for value in mb]


def test_growth_is_counted_from_the_end_of_the_first_hour():
    hours = [0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
    assert growth(looks(50, 80, 100, 101, 102, 103), hours=hours)["web"] == pytest.approx(0.03)


def test_a_process_that_was_started_again_counts_from_its_start():
    hours = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    again = looks(50, 100, 100) + looks(40, 90, 90, 90, pid=8)
    assert growth(again, hours=hours) == {"web": 0.0}


def test_less_than_two_hours_say_nothing_about_growth():
    assert growth(looks(50, 100, 110), hours=[0.0, 0.5, 1.5]) == {}
