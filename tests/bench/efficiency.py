"""Steps a second in rounds, over the same steps in a bare loop: what the product costs a learner.

Runs in a process of its own with the benchmark's database and store, while nothing else of the
system runs: `python -m tests.bench.efficiency` prints its pairs of rates as JSON.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from learning.experiments.analysis import quantile
from tests.bench.report import Measure

# Of each kind, in turn, so that a machine that slows down slows both.
PAIRS = 8
STEPS = 300
WARM_UP_STEPS = 60


def measure(var: Path) -> list[Measure]:
    """Run the comparison on the learner in `var` and return the ratio of rates."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "sop_web.settings",
        "SOP_VAR": str(var),
        "REDIS_URL": "",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.efficiency"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    pairs = json.loads(done.stdout.splitlines()[-1])
    ratios = [rounds / bare for bare, rounds in pairs]
    return [
        Measure(
            "learner_efficiency",
            quantile(ratios, 0.5),
            "",
            ">= 0.95",
            ratios,
            f"rounds of {STEPS} steps with index polls, lease, metrics, publications and "
            f"checkpoint: {quantile([r for _, r in pairs], 0.5):.1f} steps/s; bare loop: "
            f"{quantile([b for b, _ in pairs], 0.5):.1f} steps/s",
        )
    ]


def compare() -> list[tuple[float, float]]:
    """Return (bare, rounds) rates in steps per second, of each pair."""
    import django

    django.setup()
    from learning.models import Learner
    from learning.services.learners import claim_round, end_round
    from learning.services.rounds import run_round
    from learning.services.warm import warm_learner

    learner = Learner.objects.get()
    Learner.objects.update(state="running", lease_holder="", lease_expires_at=None)

    def bare(steps: int) -> float:
        claim = claim_round(learner.pk, "bench")
        assert claim is not None
        with warm_learner(claim) as warm:
            while warm.indexer.poll():
                pass
            started = time.perf_counter()
            for _ in range(steps):
                warm.trainer.step()
            rate = steps / (time.perf_counter() - started)
        end_round(claim, state="done")
        return rate

    def rounds(steps: int) -> float:
        claim = claim_round(learner.pk, "bench")
        assert claim is not None
        started = time.perf_counter()
        row = run_round(claim, seconds=600, max_steps=steps)
        return row.steps / (time.perf_counter() - started)

    bare(WARM_UP_STEPS)
    return [(bare(STEPS), rounds(STEPS)) for _ in range(PAIRS)]


if __name__ == "__main__":
    print(json.dumps(compare()))
