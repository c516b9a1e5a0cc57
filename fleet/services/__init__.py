"""Writes, and the live links of this process. Nothing here knows HTTP or Celery."""
