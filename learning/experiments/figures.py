"""The plots of the experiments, written to files without a display."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Line:
    """One arm over time: minutes, success, and optionally a band."""

    minutes: Sequence[float]
    rates: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def plot_arms(
    path: Path,
    *,
    lines: Mapping[str, Line],
    bars: Mapping[str, tuple[float, float, float]],
    title: str,
    target: float | None = None,
    xlabel: str = "simulated minutes",
) -> None:
    """Draw arms over time and, beside them, where each ended.

    Args:
        path: PNG to write.
        lines: Curves by arm; an arm keeps its colour in both panels.
        bars: Final success by arm, with the ends of its interval.
        title: One line above the plot.
        target: A level to mark, such as the success that a time was measured to.
        xlabel: What the curves run over.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys((*lines, *bars)))
    colours = {name: f"C{index % 10}" for index, name in enumerate(names)}
    widths = (3, 1 + 0.35 * len(bars)) if bars else (1,)
    figure, axes = plt.subplots(
        1,
        len(widths),
        figsize=(5 + sum(widths), 4.6),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    over_time = axes[0][0]
    for name, line in lines.items():
        over_time.plot(line.minutes, line.rates, "o-", ms=3, color=colours[name], label=name)
        if line.low is not None and line.high is not None:
            over_time.fill_between(
                line.minutes, line.low, line.high, color=colours[name], alpha=0.15, linewidth=0
            )
    if target is not None:
        over_time.axhline(target, color="#777", linestyle=":", linewidth=1)
    over_time.set(ylim=(0, 1), xlabel=xlabel, ylabel="success on held-out layouts", title=title)
    if lines:
        over_time.legend(loc="lower right", fontsize="small")
    if bars:
        ends = axes[0][1]
        for position, (name, (value, low, high)) in enumerate(bars.items()):
            ends.bar(position, value, color=colours[name], alpha=0.7)
            error = [[max(0.0, value - low)], [max(0.0, high - value)]]
            ends.errorbar(position, value, yerr=error, capsize=3, color="#222")
        ends.set_xticks(range(len(bars)), list(bars), rotation=40, ha="right", fontsize="small")
        ends.set(ylim=(0, 1), title="at the end, 95 %")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_soak(
    path: Path,
    *,
    hours: Sequence[float],
    rss_mb: Mapping[str, Sequence[float]],
    scores: Sequence[tuple[float, Score]],
    title: str,
) -> None:
    """Draw held-out success by hour, and below it the memory of every process.

    Args:
        path: PNG to write.
        hours: Of each look at the system.
        rss_mb: Resident memory at each look, by process; NaN where there was none.
        scores: Success of each hour, by the hour's end.
        title: One line above the plot.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    seen = [(hour, score) for hour, score in scores if score.trials]
    if seen:
        low = [s.rate - s.interval[0] for _, s in seen]
        high = [s.interval[1] - s.rate for _, s in seen]
        x = [hour for hour, _ in seen]
        top.errorbar(x, [s.rate for _, s in seen], yerr=(low, high), fmt="o-", capsize=3)
    top.set(ylim=(0, 1), ylabel="held-out success of the hour", title=title)
    for name, values in sorted(rss_mb.items()):
        bottom.plot(hours, values, label=name)
    bottom.set(xlabel="hours of the system, in robot time", ylabel="resident memory, MB")
    bottom.set_ylim(bottom=0)
    bottom.legend(loc="upper left", fontsize="small", ncols=3)
    figure.savefig(path, dpi=120)
    plt.close(figure)
