"""Plotly figures as plain dicts: the server decides what is drawn, the browser only draws.

Colours are "token:<name>[/alpha]"; the browser takes them from the stylesheet, so that one figure
serves both themes. A figure is None while there is nothing to draw.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext

from fleet.phrases import said
from learning.models import LearnerMetric
from learning.selectors.dashboards import Cell
from learning.selectors.evaluations import Line
from learning.selectors.forgetting import TaskCurve
from learning.selectors.metrics import Point

Figure = dict[str, Any]

# One colour a task; state colours are left out on purpose, they mean state.
_SERIES = ("accent", *(f"series-{number}" for number in range(2, 9)))


def _layout(y_title: str, **y_axis: Any) -> dict[str, Any]:
    axis = {
        "gridcolor": "token:line",
        "linecolor": "token:line-strong",
        "zeroline": False,
        "tickfont": {"size": 11},
        "automargin": True,
    }
    return {
        "margin": {"l": 48, "r": 14, "t": 10, "b": 38},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, ui-sans-serif, system-ui, sans-serif", "color": "token:muted"},
        "xaxis": axis,
        "yaxis": {**axis, "title": {"text": y_title, "font": {"size": 11}}, **y_axis},
        "legend": {"orientation": "h", "y": -0.24, "yanchor": "top", "font": {"size": 11}},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "token:surface",
            "bordercolor": "token:line-strong",
            "font": {"color": "token:text", "size": 12},
        },
    }


def _line(
    x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any
) -> dict[str, Any]:
    line = {"color": f"token:{colour}", "width": 2, **more.pop("line", {})}
    return {
        "type": "scatter", "mode": "lines", "x": list(x), "y": list(y), "name": name,
        "line": line, "connectgaps": False, **more,
    }  # fmt: skip


def _mean(values: Any) -> float | None:
    """Mean over tasks, of a mapping from task to number or None."""
    numbers = [v for v in (values or {}).values() if v is not None]
    return sum(numbers) / len(numbers) if numbers else None


def _of(successes: int, trials: int) -> str:
    return _("%(n)s of %(total)s") % {"n": successes, "total": trials}


def success(points: Sequence[Point]) -> Figure | None:
    """Draw evaluated success over time with its Wilson 95 % band."""
    if not points:
        return None
    x = [point.at.isoformat() for point in points]
    text = [
        f"{_of(p.rate.successes, p.rate.n)} [{p.rate.low:.2f}–{p.rate.high:.2f}]"
        + (f" · v{p.first_policy}–v{p.last_policy}" if p.last_policy is not None else "")
        for p in points
    ]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    return {
        "data": [
            {"type": "scatter", "x": x, "y": [p.rate.low for p in points], **edge},
            {
                "type": "scatter", "x": x, "y": [p.rate.high for p in points], **edge,
                "fill": "tonexty", "fillcolor": "token:accent/0.18",
            },
            _line(
                x, [p.rate.share for p in points], _("success"), "accent",
                mode="lines+markers", text=text, hovertemplate="%{y:.2f} · %{text}<extra></extra>",
                showlegend=False,
            ),
        ],
        "layout": _layout(_("evaluated success"), range=[-0.02, 1.02], tickformat=".1f"),
    }  # fmt: skip


def loss(metrics: Sequence[LearnerMetric]) -> Figure | None:
    """Draw the loss: all of a batch, and its online and offline parts, means over tasks."""
    points = [m for m in metrics if m.values.get("loss") is not None]
    if not points:
        return None
    x = [m.step for m in points]
    return {
        "data": [
            _line(x, [m.values["loss"] for m in points], _("batch"), "text"),
            _line(x, [_mean(m.values.get("loss_online")) for m in points], _("online"), "accent"),
            _line(
                x,
                [_mean(m.values.get("loss_offline")) for m in points],
                pgettext("buffer", "offline"),
                "faint",
            ),
        ],
        "layout": _layout(_("loss"), rangemode="tozero"),
    }


def omega(metrics: Sequence[LearnerMetric]) -> Figure | None:
    """Draw the online share of each task: used (solid) and before clipping (dotted)."""
    points = [m for m in metrics if m.values.get("omega")]
    if not points:
        return None
    x = [m.step for m in points]
    tasks = sorted({task for m in points for task in m.values["omega"]})
    data = []
    for index, task in enumerate(tasks):
        colour = _SERIES[index % len(_SERIES)]
        group = {"legendgroup": task}
        used = [m.values["omega"].get(task) for m in points]
        raw = [m.values.get("omega_raw", {}).get(task) for m in points]
        data.append(_line(x, used, task, colour, **group))
        dotted = {"dash": "dot", "width": 1.2}
        data.append(
            _line(
                x,
                raw,
                _("%(task)s, raw") % {"task": task},
                colour,
                line=dotted,
                showlegend=False,
                **group,
            )
        )
    return {
        "data": data,
        "layout": _layout(_("ω online"), range=[-0.02, 1.02]),
    }


def buffers(metrics: Sequence[LearnerMetric]) -> Figure | None:
    """Draw how many episodes each buffer holds."""
    points = [m for m in metrics if m.values.get("episodes_offline") is not None]
    if not points:
        return None
    x = [m.at.isoformat() for m in points]
    online = [m.values.get("episodes_online") or 0 for m in points]
    offline = [m.values["episodes_offline"] for m in points]
    return {
        "data": [
            _line(x, online, _("online"), "accent"),
            _line(x, offline, _("offline (demonstrations)"), "faint"),
        ],
        "layout": _layout(_("episodes"), rangemode="tozero"),
    }


def versions(curves: Sequence[TaskCurve], *, task: str = "") -> Figure | None:
    """Draw success against version: a line for each task, or one task with its Wilson band."""
    shown = [curve for curve in curves if curve.points and task in ("", curve.task)]
    if not shown:
        return None
    data: list[dict[str, Any]] = []
    for index, curve in enumerate(shown):
        x = [point.last for point in curve.points]
        text = [
            f"{_of(p.score.successes, p.score.trials)} "
            f"[{p.score.interval[0]:.2f}–{p.score.interval[1]:.2f}] · {p.words}"
            for p in curve.points
        ]
        if task:
            edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
            lows = [p.score.interval[0] for p in curve.points]
            highs = [p.score.interval[1] for p in curve.points]
            band = {"fill": "tonexty", "fillcolor": "token:accent/0.18"}
            data.append({"type": "scatter", "x": x, "y": lows, **edge})
            data.append({"type": "scatter", "x": x, "y": highs, **edge, **band})
        data.append(
            _line(
                x,
                [p.score.rate for p in curve.points],
                curve.task,
                _SERIES[index % len(_SERIES)],
                mode="lines+markers",
                text=text,
                line={} if curve.trained else {"dash": "dot"},
                hovertemplate="%{y:.2f} · %{text}<extra>" + curve.task + "</extra>",
            )
        )
    layout = _layout(_("held-out success"), range=[-0.02, 1.02], tickformat=".1f")
    layout["xaxis"] = {**layout["xaxis"], "title": {"text": _("version"), "font": {"size": 11}}}
    return {"data": data, "layout": {**layout, "hovermode": "closest"}}


def evaluation(lines: Sequence[Line], names: Sequence[str]) -> Figure | None:
    """Draw an evaluation: a bar with its Wilson 95 % interval for each task and version."""
    drawn = [line for line in lines if any(arm.score.trials for arm in line.arms)]
    if not drawn:
        return None
    data = []
    for index, name in enumerate(names):
        arms = [
            (said(line.name), line.arms[index]) for line in drawn if line.arms[index].score.trials
        ]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": [said(task) for task, arm in arms],
                "y": [arm.score.rate for task, arm in arms],
                "marker": {"color": f"token:{_SERIES[index]}"},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "color": "token:muted",
                    "thickness": 1.2,
                    "array": [arm.high - arm.score.rate for task, arm in arms],
                    "arrayminus": [arm.score.rate - arm.low for task, arm in arms],
                },
                "text": [_of(arm.score.successes, arm.score.trials) for task, arm in arms],
                "textposition": "none",
                "hovertemplate": "%{y:.2f} · %{text}<extra></extra>",
                "showlegend": True,
            }
        )
    layout = _layout(_("held-out success"), range=[0, 1.02], tickformat=".1f")
    return {"data": data, "layout": {**layout, "barmode": "group"}}


# ---- dashboards ----------------------------------------------------------------------------------

# Of a cell: the height of its point, or None, and what a pointer over it reads.
Height = Callable[[Cell], float | None]
Words = Callable[[Cell], str]
Address = Callable[[Cell], str]


def dashboard(
    cells: Sequence[Cell], address: Address, *, between: tuple[datetime, datetime]
) -> dict[str, Figure | None]:
    """Return every figure of the dashboards; a point leads to its episodes at `address`.

    An axis of time goes from one end of `between` to the other, whatever there is in it.
    """

    def draw(title: str, height: Height, words: Words, **y_axis: Any) -> Figure | None:
        return _cells(cells, title, height, words, address, **y_axis)

    figures = {
        "success": draw(
            _("held-out success"),
            lambda c: c.success.share if c.success.n else None,
            lambda c: (
                f"{_of(c.success.successes, c.success.n)}"
                f" [{c.success.low:.2f}–{c.success.high:.2f}]"
            ),
            range=[-0.02, 1.02],
            tickformat=".1f",
        ),
        "interventions": draw(
            _("interventions an episode"),
            lambda c: c.per_episode,
            lambda c: (
                _("%(n)s in %(episodes)s episodes, %(rate)s an hour of control")
                % {
                    "n": c.train["interventions"],
                    "episodes": c.train["episodes"],
                    "rate": f"{c.per_acted_hour or 0:.1f}",
                }
            ),
            rangemode="tozero",
        ),
        "human": draw(
            _("operator minutes"),
            lambda c: c.human_minutes if c.train["episodes"] else None,
            lambda c: (
                _("%(n)s of %(total)s episodes corrected")
                % {
                    "n": c.train["corrected"],
                    "total": c.train["episodes"],
                }
            ),
            rangemode="tozero",
        ),
        "acted": draw(
            _("episodes an hour of execution"),
            lambda c: c.per_hour_acted,
            lambda c: (
                _("%(n)s in %(hours)s h")
                % {
                    "n": c.terminated,
                    "hours": f"{c.train['acted_ms'] / 3_600_000:.2f}",
                }
            ),
            rangemode="tozero",
        ),
        "wall": draw(
            _("successes an hour of the clock"),
            lambda c: c.per_wall_hour,
            lambda c: (
                _("%(n)s successes, %(robots)s robots")
                % {
                    "n": c.train["successes"],
                    "robots": c.robots,
                }
            ),
            rangemode="tozero",
        ),
        "used": draw(
            _("share of time acting"),
            lambda c: c.used,
            lambda c: _robots(c.robots),
            range=[-0.02, 1.02],
            tickformat=".1f",
        ),
    }
    if cells and isinstance(cells[0].at, datetime):
        for figure in figures.values():
            if figure is not None:
                ends = [at.isoformat() for at in between]
                figure["layout"]["xaxis"] = {**figure["layout"]["xaxis"], "range": ends}
    success = figures["success"]
    if success is not None:
        for line, points in zip(success["data"], _by_group(cells).values(), strict=True):
            line["error_y"] = {
                "type": "data",
                "symmetric": False,
                "thickness": 1.2,
                "width": 2,
                "array": [c.success.high - c.success.share for c in points],
                "arrayminus": [c.success.share - c.success.low for c in points],
            }
    return figures


def _by_group(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    return dict(sorted(groups.items()))


def _line_name(group: str) -> str:
    if not group:
        return pgettext("line", "all")
    # Robots without a site.
    return _("none") if group == "none" else group


def _robots(n: int) -> str:
    return ngettext("%(n)s robot", "%(n)s robots", n) % {"n": n}


def _cells(
    cells: Sequence[Cell],
    title: str,
    height: Height,
    words: Words,
    address: Address,
    **y_axis: Any,
) -> Figure | None:
    """Draw a line for each group; None while no point has a height."""
    if all(height(cell) is None for cell in cells):
        return None
    data = [
        _line(
            [c.at.isoformat() if isinstance(c.at, datetime) else c.at for c in points],
            [height(c) for c in points],
            _line_name(name),
            _SERIES[index % len(_SERIES)],
            mode="lines+markers",
            text=[words(c) for c in points],
            customdata=[address(c) for c in points],
            hovertemplate="%{y:.3~g} · %{text}<extra>"
            + (_line_name(name) if name else "")
            + "</extra>",
            showlegend=bool(name),
        )
        for index, (name, points) in enumerate(_by_group(cells).items())
    ]
    return {"data": data, "layout": {**_layout(title, **y_axis), "hovermode": "closest"}}
