"""What learning tests share: a robot, a task, and an object store of their own."""

from pathlib import Path

import pytest

from fleet.models import Robot, Task
from learning import blobs
from tests.factories import make_robot, make_task


@pytest.fixture(autouse=True)
def store(tmp_path: Path, settings) -> blobs.BlobStore:
    settings.SOP_STORE_URL = (tmp_path / "store").as_uri()
    return blobs.store()


@pytest.fixture
def task(db: None) -> Task:
    return make_task("stack")


@pytest.fixture
def robot(db: None) -> Robot:
    return make_robot("arm-a", token="token-a")
