import pytest
from django.core.management import CommandError, call_command

from fleet.models import Robot
from fleet.selectors.access import access_robot_by_token


def register(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("register_robot", *arguments)
    return capsys.readouterr().out.strip()


def test_a_registered_robot_connects_with_the_token_that_was_printed(db, capsys):
    token = register(capsys, "arm-01", "--site", "hall 3")
    robot = access_robot_by_token(token)
    assert (robot.name, robot.site, robot.kind) == ("arm-01", "hall 3", Robot.Kind.REAL)


def test_a_robot_that_exists_keeps_its_token_unless_another_is_asked_for(db, capsys):
    token = register(capsys, "arm-01")
    with pytest.raises(CommandError, match="--new-token gives it another"):
        register(capsys, "arm-01")
    newer = register(capsys, "arm-01", "--new-token")
    assert newer != token
    assert access_robot_by_token(newer).name == "arm-01"


@pytest.mark.parametrize("arguments", [["a b"], [""], ["x" * 65], ["arm", "--site", "s" * 65]])
def test_an_impossible_robot_is_refused_and_not_stored(db, capsys, arguments):
    with pytest.raises(CommandError, match="is not possible"):
        register(capsys, *arguments)
    assert not Robot.objects.exists()
