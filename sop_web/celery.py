"""The Celery app: `celery -A sop_web worker|beat`. Queues and schedules are in settings."""

import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sop_web.settings")

app = Celery("sop_web")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Connected on purpose, and empty: Celery then leaves Django's LOGGING alone."""
