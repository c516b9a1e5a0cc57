"""Answers for supervisors: is the process alive, and can it do its work?"""

import logging

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

log = logging.getLogger(__name__)


def healthz(request: HttpRequest) -> JsonResponse:
    """Say that the process answers. Touches nothing else."""
    return JsonResponse({"alive": True})


def readyz(request: HttpRequest) -> JsonResponse:
    """Say whether rows and Redis answer; 503 when one does not, with which."""
    checks = {"database": _database(), "redis": _redis()}
    ready = all(value == "ok" for value in checks.values())
    return JsonResponse({"ready": ready, **checks}, status=200 if ready else 503)


def _database() -> str:
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return "not migrated"
    except DatabaseError:
        log.warning("the database does not answer", exc_info=True)
        return "unreachable"
    return "ok"


def _redis() -> str:
    if not settings.REDIS_URL:
        return "ok"
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1.0) as client:
            client.ping()
    except redis.RedisError:
        log.warning("Redis does not answer", exc_info=True)
        return "unreachable"
    return "ok"
