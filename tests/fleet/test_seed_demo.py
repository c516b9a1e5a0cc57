import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from fleet.models import FleetSettings, Operator, Robot, Role, Task
from fleet.protocol.simulation import TASKS
from fleet.selectors.access import access_operator_by_token, access_robot_by_token


@pytest.fixture
def var(tmp_path, settings, db):
    settings.SOP_VAR = tmp_path
    return tmp_path


def seed(**options: object) -> None:
    call_command("seed_demo", verbosity=0, **options)


def test_a_bare_database_gets_tasks_robots_people_and_scripts(var):
    seed(robots=3, operators=2, insecure_demo_passwords=True)
    assert {t.name for t in Task.objects.all()} == {task.name for task in TASKS}
    assert Robot.objects.count() == 3
    assert FleetSettings.objects.get().evaluate_every == 6
    people = Operator.objects.filter(kind="human")
    assert {operator.role for operator in people} == set(Role)
    assert Operator.objects.filter(kind="scripted").count() == 2


def test_a_new_fleet_gets_the_pause_asked_for_and_an_old_one_keeps_its_own(var):
    seed(robots=1, reset_s=0.25)
    seed(robots=1, reset_s=3.0)
    assert FleetSettings.objects.get().reset_s == 0.25


@pytest.mark.parametrize("reset_s", [-1.0, 3601.0, float("nan")])
def test_a_pause_out_of_range_is_refused_in_words(var, reset_s):
    with pytest.raises(CommandError, match=f"--reset-s {reset_s} is not possible"):
        seed(robots=1, reset_s=reset_s)
    assert not FleetSettings.objects.exists()


def test_every_file_with_a_secret_is_its_owners_only(var):
    seed(robots=1)
    for name in ("operators.json", "logins.txt", "robots/robot-1.json"):
        assert (var / name).stat().st_mode & 0o777 == 0o600


def test_the_secrets_written_are_the_ones_that_work(var):
    seed(robots=2, operators=1)
    for name in ("robot-1", "robot-2"):
        config = json.loads((var / "robots" / f"{name}.json").read_text())
        assert access_robot_by_token(config["token"]).name == config["robot"] == name
    entries = json.loads((var / "operators.json").read_text())
    (script,) = [entry for entry in entries if entry["kind"] == "scripted"]
    assert access_operator_by_token(script["token"]).name == script["name"]
    for entry in entries:
        if entry["kind"] == "human":
            assert entry["password"] != entry["name"]
            assert Client().login(username=entry["name"], password=entry["password"])


def test_repeating_it_keeps_tokens_and_passwords(var):
    seed(robots=2, operators=1)
    before = {path: path.read_text() for path in var.rglob("*") if path.is_file()}
    seed(robots=2, operators=1)
    assert {path: path.read_text() for path in before} == before
    seed(robots=4, operators=2)
    assert (var / "robots" / "robot-4.json").exists()
    assert json.loads((var / "operators.json").read_text())[-1]["name"] == "script-2"
    for path, text in before.items():
        if path.parent.name == "robots":
            assert path.read_text() == text


def test_a_lost_configuration_is_written_anew_with_a_new_token(var):
    seed(robots=1)
    path = var / "robots" / "robot-1.json"
    old = json.loads(path.read_text())["token"]
    path.unlink()
    seed(robots=1)
    new = json.loads(path.read_text())["token"]
    assert new != old
    assert access_robot_by_token(new).name == "robot-1"


def test_only_the_chosen_tasks_are_enabled(var):
    seed(robots=1, tasks="hammer,box-close")
    assert {t.name for t in Task.objects.filter(enabled=True)} == {"hammer", "box-close"}
    seed(robots=1)
    assert Task.objects.filter(enabled=False).count() == 0


def test_an_unknown_task_is_refused_with_the_ones_there_are(var):
    with pytest.raises(CommandError, match="hammer"):
        seed(tasks="levitate")
    assert not Robot.objects.exists()


def test_demonstration_passwords_are_refused_in_production(var, settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="production"):
        seed(insecure_demo_passwords=True)
