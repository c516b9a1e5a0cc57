"""How a batch is mixed: `make experiment NAME=sampler`. Virtual clock.

SOP + HG-DAgger four times, with nothing different but the sampler: SOP's adaptive one with the
formula as printed, the same with losses normalised, a fixed half and half (RLPD), and every frame
as likely as every other. SOP never compared its sampler with anything. Options: see
`virtual/command.py`.

Ends in one line of JSON: success at the end by sampler, and `minutes_…` to a success of 0.8, each
with its 95 % interval.
"""

from collections.abc import Mapping
from typing import Any

from learning.experiments.virtual.command import Laboratory, Outcome, run_command
from learning.experiments.virtual.variants import QUICK, Size, compare

SAMPLERS: Mapping[str, Mapping[str, Any]] = {
    "adaptive": {"kind": "adaptive", "alpha": 2.0},
    "adaptive_normalised": {"kind": "adaptive", "alpha": 2.0, "normalise": True},
    "half": {"kind": "fixed", "share": 0.5},
    "frames": {"kind": "frames"},
}


def conduct(laboratory: Laboratory, size: Size) -> Outcome:
    """Perform the four arms and compare them with half and half."""
    variants = {name: {"sampler": sampler} for name, sampler in SAMPLERS.items()}
    return compare(laboratory, size, variants, name="sampler", reference="half")


def main() -> int:
    """Run from the command line."""
    return run_command("sampler", full=Size(), quick=QUICK, conduct=conduct)


if __name__ == "__main__":
    raise SystemExit(main())
