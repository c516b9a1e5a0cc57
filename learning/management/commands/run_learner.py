"""Run a learner's rounds without Celery, on one process or, under torchrun, on several."""

import os
import signal
import socket
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from learning.exceptions import NotFound
from learning.selectors.learners import learner_named
from learning.services.learners import claim_round, round_of

# Nothing is due: look again after this long.
IDLE_S = 0.5


class Command(BaseCommand):
    help = (
        "Run the rounds of a learner until stopped, in place of the Celery worker of its queue."
        " `torchrun --standalone --nproc-per-node 2 manage.py run_learner NAME` splits every"
        " gradient step over two processes; the lease keeps it apart from any other worker."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--rounds", type=int, help="end after so many; default: go on")
        parser.add_argument("--seconds", type=float, default=settings.SOP_ROUND_S, help="a round")

    def handle(self, *, name: str, rounds: int | None, seconds: float, **_: Any) -> None:
        import torch
        import torch.distributed as dist

        from learning.core import ranks

        if ranks.join():
            torch.set_num_threads(settings.SOP_LEARNER_THREADS)
            # The leader decides when to end; a follower that goes first leaves it half a step.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            ranks.follow()
        else:
            self._lead(name, rounds, seconds)
            # Not after an error: followers may then be in the middle of a step, and end with us.
            leader = ranks.leader()
            if leader is not None:
                leader.stop()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _lead(self, name: str, rounds: int | None, seconds: float) -> None:
        from learning.services.rounds import run_round

        stopping = threading.Event()
        before = {
            number: signal.signal(number, lambda *_: stopping.set())
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        holder = f"{socket.gethostname()}:{os.getpid()}:run_learner"
        done = 0
        try:
            while not stopping.is_set() and done != rounds:
                claim = claim_round(learner_named(name).pk, holder)
                if claim is None:
                    stopping.wait(IDLE_S)
                    continue
                with round_of(claim):
                    row = run_round(claim, seconds=seconds, stopping=stopping.is_set)
                    self.stdout.write(f"round {row.number}: {row.steps} steps {row.reason}")
                done += 1
        except NotFound as error:
            raise CommandError(str(error)) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
