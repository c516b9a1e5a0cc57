"""Wires the two apps into one product; decides nothing."""

from sop_web.celery import app as celery_app

__all__ = ["celery_app"]
