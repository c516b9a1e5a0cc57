"""How an agent is configured: a TOML or JSON file, or flags; the token also from a file."""

import argparse
import importlib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fleet.agent.drivers.base import Driver
from fleet.agent.spool import DEFAULT_LIMIT_BYTES
from fleet.protocol.spec import Name

_DRIVERS = {"metaworld": "fleet.agent.drivers.metaworld:MetaWorldDriver"}


class BadConfig(ValueError):
    """A configuration that cannot run; the message says what to change."""


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything an agent is told before it starts."""

    # The robot's name, as registered on the server.
    robot: Name
    # Base URL of the server.
    server: str = "http://127.0.0.1:8000"
    # The robot's bearer token, or a file that holds it.
    token: str = ""
    token_file: str = ""
    # Folder of the spool and of all that must survive a restart.
    spool: str
    # Above this no new episode begins until uploads catch up.
    spool_limit_bytes: int = DEFAULT_LIMIT_BYTES
    # A driver's name, or "package.module:Class" for one's own robot.
    driver: str = "metaworld"
    # Arguments of the driver.
    options: dict[str, Any] = {}
    log_level: str = "info"
    # Before other processes of the machine: not at all, by niceness, or also with control loop and
    # link in real time, which the machine must have room for. The last two need a privilege.
    priority: Literal["normal", "high", "realtime"] = "high"
    # Where between two pictures an episode begins, so that robots of one machine take turns.
    phase: Annotated[float, Meta(ge=0, lt=1)] | None = None

    def secret(self) -> str:
        """Return the token. Raises BadConfig when there is none."""
        try:
            token = self.token or (Path(self.token_file).read_text() if self.token_file else "")
        except OSError as error:
            raise BadConfig(f"the token file cannot be read: {error}") from None
        token = token.strip() or os.environ.get("SOP_ROBOT_TOKEN", "")
        if not token:
            raise BadConfig("no token: set token, token_file, or SOP_ROBOT_TOKEN")
        return token


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of a TOML or JSON file. Raises BadConfig."""
    try:
        data = path.read_bytes()
        if path.suffix == ".toml":
            return tomllib.loads(data.decode())
        return msgspec.json.decode(data, type=dict[str, Any])
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BadConfig(f"{path} cannot be read: {error}") from None


def parse(arguments: list[str]) -> AgentConfig:
    """Return the configuration of a command line; flags override the file. Raises BadConfig."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agent", description=__doc__)
    parser.add_argument("--config", type=Path, help="TOML or JSON file")
    parser.add_argument("--robot", help="name, as registered on the server")
    parser.add_argument("--server", help="base URL")
    parser.add_argument("--token-file", help="file with the bearer token (or SOP_ROBOT_TOKEN)")
    parser.add_argument("--spool", help="folder for episodes and state")
    parser.add_argument("--driver", help=f"{', '.join(_DRIVERS)}, or package.module:Class")
    parser.add_argument(
        "--priority",
        help="normal, high (niceness), or realtime: control loop and link, where there is room",
    )
    parser.add_argument(
        "--phase",
        type=float,
        help="0 to 1: where between two pictures episodes begin; robots of one machine take turns",
    )
    parser.add_argument("--log-level", help="debug, info, warning or error")
    flags = vars(parser.parse_args(arguments))
    path = flags.pop("config")
    values = read_config(path) if path else {}
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        config = msgspec.convert(values, AgentConfig)
    except msgspec.ValidationError as error:
        raise BadConfig(f"configuration: {error}") from None
    if not config.server.startswith(("http://", "https://")):
        raise BadConfig("server must be an http or https address")
    return config


def build_driver(config: AgentConfig) -> Driver:
    """Return the configured driver. Raises BadConfig when there is none of that name."""
    module_name, _, class_name = _DRIVERS.get(config.driver, config.driver).partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadConfig(f"driver {config.driver!r} cannot be loaded: {error}") from None
    driver: Driver = factory(**config.options)
    return driver
