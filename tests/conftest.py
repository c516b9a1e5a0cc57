"""Fixtures that several parts of the suite share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from scripts.embedded_redis import embedded_redis
from tests import live
from tests.factories import Cast, make_cast

# How long an example takes says how busy the machine is, and nothing of what is tested.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")
# A shell starts what it puts into the background deaf to interrupts, and that is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cast(db: None) -> Cast:
    return make_cast()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis of this test run."""
    with embedded_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def seeded_var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with two robots, one scripted operator and one user of each role.

    Copy it (`live.copy_installation`), do not run on it.
    """
    var = tmp_path_factory.mktemp("seeded") / "var"
    live.seed(var, robots=2, operators=1)
    return var


@pytest.fixture
def live_server_process(
    seeded_var: Path, redis_server: str, tmp_path: Path
) -> Iterator[live.LiveServer]:
    """A web process of its own for one test: real daphne, real Redis, real sockets."""
    var = live.copy_installation(seeded_var, tmp_path / "var")
    with live.live_server(var, redis_url=redis_server) as server:
        yield server
