"""What the composition root does by itself: settings, health, headers, logs, checks."""

import logging

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.test import Client

from sop_web import env, health
from sop_web.checks import production_is_safe
from sop_web.logs import LineFormatter


def test_a_live_process_says_so_without_touching_anything(client: Client):
    assert client.get("/healthz").json() == {"alive": True}


def test_a_ready_process_has_its_rows(db, client: Client):
    response = client.get("/readyz")
    assert (response.status_code, response.json()["ready"]) == (200, True)


def test_a_process_without_its_database_is_not_ready(db, client: Client, monkeypatch, caplog):
    class Down:
        def __init__(self, connection: object) -> None:
            raise DatabaseError("away")

    monkeypatch.setattr(health, "MigrationExecutor", Down)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["database"] == "unreachable"


def test_a_process_without_its_redis_is_not_ready(db, client: Client, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    response = client.get("/readyz")
    assert (response.status_code, response.json()["redis"]) == (503, "unreachable")


def test_a_ready_process_talks_to_its_redis(db, client: Client, settings, redis_server: str):
    settings.REDIS_URL = redis_server
    assert client.get("/readyz").json() == {"ready": True, "database": "ok", "redis": "ok"}


def test_pages_allow_no_inline_code_and_nothing_foreign(client: Client):
    policy = client.get("/healthz").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


def test_a_log_record_is_one_line_whatever_is_in_it():
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb%s", ("\r\nINFO forged",), None)
    line = LineFormatter().format(record)
    assert "\n" not in line
    assert "\r" not in line
    assert line.endswith(r"INFO x: a\nb\r\nINFO forged")


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, []),
        ({"DEBUG": True}, ["sop.E001"]),
        ({"ALLOWED_HOSTS": ["*"]}, ["sop.E002"]),
        ({"REDIS_URL": ""}, ["sop.E003"]),
        ({"SESSION_COOKIE_SECURE": False}, ["sop.E004"]),
        ({"CONTENT_SECURITY_POLICY": {"script-src": "'unsafe-inline'"}}, ["sop.E005"]),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3"}}}, ["sop.W001"]),
        ({"PRODUCTION": False, "DEBUG": True, "REDIS_URL": ""}, []),
    ],
)
def test_production_refuses_what_is_unsafe(settings, monkeypatch, changed, found: list[str]):
    safe = {
        "PRODUCTION": True,
        "DEBUG": False,
        "ALLOWED_HOSTS": ["sop.example"],
        "REDIS_URL": "rediss://redis.example/0",
        "SESSION_COOKIE_SECURE": True,
        "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}},
    }
    from sop_web import checks

    values = {"CONTENT_SECURITY_POLICY": settings.CONTENT_SECURITY_POLICY, **safe, **changed}
    monkeypatch.setattr(checks, "settings", type("Settings", (), values))
    assert [message.id for message in production_is_safe(None)] == found


# ---- the environment ----------------------------------------------------------------------


def test_a_secret_may_come_from_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "key"))
    assert env.secret("THING") == "s3cret"
    monkeypatch.setenv("THING_FILE", str(tmp_path / "missing"))
    with pytest.raises(ImproperlyConfigured, match="THING_FILE"):
        env.secret("THING")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("Yes", True), ("0", False), ("", False)])
def test_a_flag_is_yes_or_no(monkeypatch, text: str, value: bool):
    monkeypatch.setenv("THING", text)
    assert env.flag("THING", not value) is value


def test_a_flag_that_is_neither_is_refused(monkeypatch):
    monkeypatch.setenv("THING", "perhaps")
    with pytest.raises(ImproperlyConfigured, match="THING"):
        env.flag("THING", False)
    with pytest.raises(ImproperlyConfigured, match="THING"):
        env.integer("THING", 1)


def test_words_are_split_at_commas(monkeypatch):
    monkeypatch.setenv("THING", " a, b,,c ")
    assert env.words("THING") == ["a", "b", "c"]


def test_the_database_is_a_file_unless_a_url_says_otherwise(monkeypatch, tmp_path):
    monkeypatch.delenv("THING", raising=False)
    file = env.database("THING", tmp_path / "x.sqlite3")
    assert file["NAME"] == str(tmp_path / "x.sqlite3")
    assert file["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    monkeypatch.setenv("THING", "postgresql://u:p%40ss@db.example:5433/name?sslmode=require")
    assert env.database("THING", tmp_path) == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "name",
        "USER": "u",
        "PASSWORD": "p@ss",
        "HOST": "db.example",
        "PORT": "5433",
        "OPTIONS": {"sslmode": "require"},
    }
    monkeypatch.setenv("THING", "mysql://x/y")
    with pytest.raises(ImproperlyConfigured, match="mysql"):
        env.database("THING", tmp_path)
