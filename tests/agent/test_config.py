import pytest

from fleet.agent.config import AgentConfig, BadConfig, build_driver, parse
from tests.fakes import FakeDriver

TOML = """
robot = "robot-1"
server = "http://10.0.0.5:8000"
token = "secret"
spool = "/tmp/spool"
driver = "tests.fakes:FakeDriver"
[options]
goal = 2.5
"""
JSON = '{"robot": "robot-1", "token": "secret", "spool": "/tmp/spool", "options": {}}'


@pytest.mark.parametrize(("name", "text"), [("a.toml", TOML), ("a.json", JSON)])
def test_a_file_configures_an_agent(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    config = parse(["--config", str(path)])
    assert (config.robot, config.secret(), config.spool) == ("robot-1", "secret", "/tmp/spool")


def test_flags_override_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(TOML)
    config = parse(["--config", str(path), "--server", "https://fleet.example"])
    assert (config.server, config.robot) == ("https://fleet.example", "robot-1")
    assert config.priority == "high"
    assert parse(["--config", str(path), "--priority", "realtime"]).priority == "realtime"
    assert parse(["--config", str(path), "--phase", "0.25"]).phase == 0.25


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ('{"spool": "x"}', "robot"),
        ('{"robot": "r", "spool": "x", "colour": 1}', "colour"),
        ('{"robot": "has spaces", "spool": "x"}', "configuration"),
        ('{"robot": "r", "spool": "x", "server": "ftp://x"}', "http"),
        ('{"robot": "r", "spool": "x", "priority": "highest"}', "priority"),
    ],
)
def test_a_wrong_file_is_refused_with_a_sentence(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadConfig, match=says):
        parse(["--config", str(path)])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BadConfig, match="cannot be read"):
        parse(["--config", str(tmp_path / "none.toml")])


def test_the_token_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(" from-file\n")
    assert config(token_file=str(tmp_path / "token")).secret() == "from-file"
    monkeypatch.setenv("SOP_ROBOT_TOKEN", "from-environment")
    assert config().secret() == "from-environment"
    monkeypatch.delenv("SOP_ROBOT_TOKEN")
    with pytest.raises(BadConfig, match="SOP_ROBOT_TOKEN"):
        config().secret()


def config(**fields) -> AgentConfig:
    return AgentConfig(robot="r", spool="x", **fields)


def test_ones_own_driver_is_named_by_module_and_class():
    driver = build_driver(config(driver="tests.fakes:FakeDriver", options={"goal": 2.5}))
    assert isinstance(driver, FakeDriver)
    assert driver.goal == 2.5


@pytest.mark.parametrize("name", ["nowhere:Driver", "tests.fakes:Nothing", "nowhere", ":", "a:"])
def test_a_driver_that_cannot_be_loaded_is_refused(name):
    with pytest.raises(BadConfig, match="driver"):
        build_driver(config(driver=name))
