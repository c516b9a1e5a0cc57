"""Typed reads of the environment. Settings come from nowhere else."""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    """Return the variable, or `default` when it is unset or empty."""
    return os.environ.get(name) or default


def secret(name: str, default: str = "") -> str:
    """Return the variable, or the content of the file that `NAME_FILE` points at."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error}") from error
    return text(name, default)


def flag(name: str, default: bool) -> bool:
    """Return the variable as a yes or no. Raises ImproperlyConfigured on anything else."""
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}={value!r} is neither yes nor no: use 1 or 0")


def integer(name: str, default: int) -> int:
    """Return the variable as a whole number. Raises ImproperlyConfigured."""
    try:
        return int(text(name, str(default)))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a whole number: {error}") from error


def words(name: str, default: str = "") -> list[str]:
    """Return a comma-separated variable as a list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def database(name: str, sqlite_path: Path) -> dict[str, object]:
    """Return Django's DATABASES entry for a PostgreSQL or SQLite URL, or for `sqlite_path`.

    Raises ImproperlyConfigured on any other engine.
    """
    url = urlsplit(secret(name))
    if url.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path.lstrip("/")),
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": unquote(url.hostname or ""),
            "PORT": str(url.port or ""),
            "OPTIONS": dict(pair.split("=", 1) for pair in url.query.split("&") if "=" in pair),
        }
    if url.scheme not in ("", "sqlite"):
        raise ImproperlyConfigured(f"{name} is a postgresql:// or sqlite:/// URL, not {url.scheme}")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": unquote(url.path.removeprefix("/")) if url.scheme else str(sqlite_path),
        "OPTIONS": {
            # Readers never block the writer and the other way round.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA foreign_keys=ON;",
            # Take the write lock at BEGIN: a read that later writes would otherwise fail at once
            # with "database is locked" instead of waiting for its turn.
            "transaction_mode": "IMMEDIATE",
            # Seconds a writer waits for another one.
            "timeout": 20,
        },
    }
