"""The plot of a loop experiment, written to a file without a display."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from learning.core.statistics import Score, pooled
from learning.experiments.analysis import Sample, windowed_success


def plot_loop(
    path: Path,
    *,
    samples: Sequence[Sample],
    evaluations: Sequence[tuple[float, Mapping[str, Score]]],
    control: Mapping[str, Score] | None,
    title: str,
) -> None:
    """Draw success over time, and below it what it cost.

    Args:
        path: PNG to write.
        samples: The running system, about once a minute.
        evaluations: (minute, success by task) of versions evaluated off the clock; the first is
            the base, the last the final version.
        control: The arm without online data, drawn as a level.
        title: One line above the plot.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8, 7), sharex=True, height_ratios=(2, 1), layout="constrained"
    )
    minutes = [s.minute for s in samples]
    fleet = windowed_success(samples)
    seen = [(minute, score) for minute, score in zip(minutes, fleet, strict=True) if score.trials]
    if seen:
        x = [minute for minute, _ in seen]
        top.plot(x, [s.rate for _, s in seen], color="#888", label="fleet's held-out episodes")
        top.fill_between(
            x,
            [s.interval[0] for _, s in seen],
            [s.interval[1] for _, s in seen],
            color="#888",
            alpha=0.15,
            linewidth=0,
        )
    if evaluations:
        scores = [pooled(tasks) for _, tasks in evaluations]
        low = [s.rate - s.interval[0] for s in scores]
        high = [s.interval[1] - s.rate for s in scores]
        top.errorbar(
            [minute for minute, _ in evaluations],
            [s.rate for s in scores],
            yerr=(low, high),
            fmt="o-",
            capsize=3,
            color="#0b6",
            label="evaluated off the clock, Wilson 95 %",
        )
    if control is not None:
        top.axhline(
            pooled(control).rate, color="#c33", linestyle="--", label="control: equal updates"
        )
    top.set(ylim=(0, 1), ylabel="success", title=title)
    top.legend(loc="lower right", fontsize="small")
    bottom.plot(
        minutes,
        [s.human_minutes for s in samples],
        label="minutes driven by scripted operators",
        color="#36c",
    )
    bottom.plot(minutes, [s.corrections for s in samples], label="corrections", color="#c83")
    bottom.set(xlabel="minutes of the online phase", ylabel="count or minutes")
    share = bottom.twinx()
    share.plot(minutes, [s.omega for s in samples], color="#777", linestyle=":")
    share.set(ylim=(0, 1), ylabel="share of online data (dotted)")
    bottom.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
