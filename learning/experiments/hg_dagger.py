"""What HG-DAgger imitates and how it weighs it: `make experiment NAME=hg_dagger`. Virtual clock.

SOP + HG-DAgger with the algorithm as published (corrections alone), with what the policy did in
episodes that succeeded without help imitated as well, with Sirius' weights, and with both. Nothing
else differs. Options: see `virtual/command.py`.

Ends in one line of JSON: success at the end by variant, and `minutes_…` to a success of 0.8, each
with its 95 % interval.
"""

from collections.abc import Mapping
from typing import Any

from learning.experiments.virtual.command import Laboratory, Outcome, run_command
from learning.experiments.virtual.variants import QUICK, Size, compare

# All with the longer mean of the weights, which suits the smaller network; see `virtual/runs.py`.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "corrections": {"ema_decay": 0.99},
    "successes": {"ema_decay": 0.99, "autonomous_successes": True},
    "sirius": {"ema_decay": 0.99, "sirius_weights": True},
    "successes_sirius": {
        "ema_decay": 0.99,
        "autonomous_successes": True,
        "sirius_weights": True,
    },
}


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform the four variants and compare them with corrections alone."""
    variants = {name: {"options": options} for name, options in VARIANTS.items()}
    return compare(laboratory, size, variants, name="hg_dagger", reference="corrections")


def main() -> int:
    """Run from the command line."""
    return run_command("hg_dagger", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
