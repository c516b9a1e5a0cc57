"""What an experiment runs with, from the environment."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fleet.protocol.simulation import FINAL_SEEDS


class BadSettings(ValueError):
    """An environment variable that cannot be used; the text says which."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an experiment runs with; experiments of equal settings resume each other."""

    policy: str = "image"
    clock: str = "real"
    minutes: float = 20.0
    seed: int = 0
    robots: int = 4
    operators: int = 2
    trials: int = 20


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings an environment asks for. Raises BadSettings."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        if text := environment.get(field.name.upper()):
            try:
                values[field.name] = type(field.default)(text)
            except ValueError:
                raise BadSettings(f"{field.name.upper()}={text} is not a number") from None
    settings = Settings(**values)
    if settings.policy not in ("image", "state"):
        raise BadSettings(f"POLICY={settings.policy}: image or state")
    if settings.clock != "real":
        raise BadSettings(f"CLOCK={settings.clock}: only the real clock is there")
    if not 0 < settings.minutes <= 24 * 60:
        raise BadSettings(f"MINUTES={settings.minutes}: more than 0, at most a day")
    if settings.robots < 1 or settings.operators < 0:
        raise BadSettings("ROBOTS is at least 1, OPERATORS at least 0")
    if not 1 <= settings.trials <= len(FINAL_SEEDS):
        raise BadSettings(f"TRIALS is 1 to {len(FINAL_SEEDS)}")
    return settings
