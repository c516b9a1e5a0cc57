import os

import pytest
from celery.worker import state

from learning.tasks import _shutting_down


def test_a_worker_that_works_on_is_not_shutting_down():
    assert not _shutting_down()


@pytest.mark.parametrize("request_to_end", ["should_stop", "should_terminate"])
def test_a_warm_shutdown_counts_although_its_status_is_zero(monkeypatch, request_to_end):
    # What celery.apps.worker sets on SIGTERM.
    monkeypatch.setattr(state, request_to_end, os.EX_OK)
    assert _shutting_down()
