"""Settings of the tests: quick, alone, and on a database file, because sockets use threads."""

import os
import tempfile
from pathlib import Path

_var = os.environ.get("SOP_VAR", str(Path(tempfile.gettempdir()) / f"sop-test-{os.getpid()}"))
# Tests that run side by side share nothing; their own child processes keep the worker's folder.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if not _var.endswith(_worker):
    _var = f"{_var}-{_worker}"
os.environ["SOP_VAR"] = _var

from sop_web.settings import *  # noqa: E402, F403
from sop_web.settings import DATABASES, SOP_VAR  # noqa: E402

DATABASES["default"]["TEST"] = (
    {"NAME": str(SOP_VAR / "test.sqlite3")}
    if "sqlite3" in str(DATABASES["default"]["ENGINE"])
    else {}
)
# Threads must not hold connections that keep PostgreSQL from dropping the test database.
DATABASES["default"]["CONN_MAX_AGE"] = 0
REDIS_URL = ""
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
CELERY_BROKER_URL = "memory://"
SOP_STORE_URL = (SOP_VAR / "store").as_uri()
# Hashing a password a hundred thousand times proves nothing here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
