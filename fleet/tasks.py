"""Celery tasks of the fleet: one more interface to the services."""

from celery import shared_task

from fleet.services import help, takeover


@shared_task
def sweep_leases() -> int:
    """End leases whose holder went silent, when no web process did; likewise in the help queue."""
    ended = len(takeover.end_expired_leases())
    help.sweep_help()
    return ended
