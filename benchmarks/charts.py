"""Draws the results as images in charts/."""

# matplotlib is in the bench group: the checks run without it.
# mypy: disable-error-code="import-not-found"

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.paced import LIMIT
from benchmarks.results import (
    SIDES,
    Held,
    PacedPoint,
    PacedSection,
    ReaderSection,
    ReplySection,
    Results,
    Side,
    StoredSection,
    Throughput,
    median_throughput,
)

DIRECTORY = Path(__file__).parent / "charts"
NAMES: dict[Side, str] = {"peer": "AgentScope Runtime", "portico": "Portico"}
COLOURS: dict[Side, str] = {"peer": "#9aa3ad", "portico": "#1f6feb"}
SECOND = "#d1602a"


def draw(results: Results) -> None:
    """Draws one file for each measured section."""
    DIRECTORY.mkdir(exist_ok=True)
    if results.replies is not None:
        _save(_throughput(results.replies), "throughput")
    if results.paced is not None:
        _save(_paced(results.paced), "paced")
    if results.readers is not None:
        _save(_readers(results.readers), "readers")
    if results.stored is not None:
        _save(_stored(results.stored), "stored")


def _throughput(section: ReplySection) -> Figure:
    figure, axes = _panels(2, "Replies per second, 50 clients (more is better)")
    _bars(axes[0], section.streaming, "200 tokens each")
    _bars(axes[1], section.empty, "empty")
    return figure


def _bars(axes: Axes, rounds: dict[Side, list[Throughput]], title: str) -> None:
    rates = {side: median_throughput(rounds[side]).replies_per_second for side in SIDES}
    bars = axes.bar([NAMES[side] for side in SIDES], list(rates.values()), color=list(COLOURS.values()))
    labels = [f"{rate:,.0f}" for rate in rates.values()]
    labels[1] += f"  ({rates['portico'] / rates['peer']:.1f}×)"
    axes.bar_label(bars, labels=labels, padding=3)
    axes.set(title=title, ylabel="replies per second")
    axes.margins(y=0.12)


def _paced(section: PacedSection) -> Figure:
    figure, (axes,) = _panels(1, "Paced streams: 50 tokens per second, 200 tokens each")
    for side in SIDES:
        points = _over_rounds(section.held[side])
        streams = list(points)
        medians = [_percent(median(point.median for point in points[n])) for n in streams]
        p95s = [_percent(median(point.p95 for point in points[n])) for n in streams]
        axes.plot(streams, medians, "o-", color=COLOURS[side], label=NAMES[side])
        axes.plot(streams, p95s, ":", color=COLOURS[side], label="  95th percentile")
    axes.axhline(_percent(LIMIT), color=SECOND, linewidth=1, label=f"limit, {_percent(LIMIT):.0f} %")
    axes.set(xscale="log", ylim=(0, 30), xlabel="streams at once", ylabel="longer than the ideal 4 s, %")
    axes.legend()
    _plain_numbers(axes)
    return figure


def _over_rounds(rounds: Sequence[Held]) -> dict[int, list[PacedPoint]]:
    """Returns the points of all rounds, ordered by their number of streams."""
    points: dict[int, list[PacedPoint]] = {}
    for point in sorted((point for held in rounds for point in held.points), key=lambda point: point.streams):
        points.setdefault(point.streams, []).append(point)
    return points


def _readers(section: ReaderSection) -> Figure:
    figure, axes = _panels(2, "Readers of one run, over SSE")
    counts = [point.readers for point in section.points]
    _line(axes[0], counts, [point.events_per_second for point in section.points], COLOURS["portico"])
    axes[0].set(title="replay of a run that has ended", ylabel="events per second, all readers")
    _line(axes[1], counts, [p.lag_median_ms for p in section.points], COLOURS["portico"], "median")
    _line(axes[1], counts, [p.lag_p99_ms for p in section.points], SECOND, "99th percentile")
    axes[1].set(title="a live run, 50 tokens per second", ylabel="lag from agent to reader, ms", yscale="log")
    axes[1].legend()
    for panel in axes:
        panel.set(xscale="log", xlabel="readers")
        _plain_numbers(panel)
    return figure


def _stored(section: StoredSection) -> Figure:
    figure, axes = _panels(2, "Stored runs")
    counts = [point.runs for point in section.points]
    _line(axes[0], counts, [point.replies_per_second for point in section.points], COLOURS["portico"])
    axes[0].set(title="empty replies, 50 clients", ylabel="replies per second")
    _line(axes[1], counts, [p.first_event_ms for p in section.points], COLOURS["portico"], "first event")
    _line(axes[1], counts, [p.list_ms for p in section.points], SECOND, "list of runs")
    _line(axes[1], counts, [p.replay_ms for p in section.points], COLOURS["peer"], "oldest run")
    axes[1].set(title="one client", ylabel="median, ms")
    axes[1].legend()
    for panel in axes:
        panel.set(xscale="log", xlabel="runs in the log")
        panel.set_ylim(bottom=0)
        _plain_numbers(panel)
    return figure


def _panels(count: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    figure, axes = plt.subplots(1, count, figsize=(9, 4.2), squeeze=False, layout="constrained")
    figure.suptitle(title)
    for panel in axes[0]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    return figure, list(axes[0])


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, label: str | None = None) -> None:
    axes.plot(x, y, "o-", color=colour, label=label)
    for point in zip(x, y, strict=True):
        text = f"{point[1]:,.2f}" if point[1] < 10 else f"{point[1]:,.0f}"
        axes.annotate(text, point, (0, 6), textcoords="offset points", ha="center", fontsize=8, color=colour)
    if label is None:
        axes.set_ylim(0, max(y) * 1.15)


def _plain_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.10g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _percent(stretch: float) -> float:
    return (stretch - 1) * 100


def _save(figure: Figure, name: str) -> None:
    figure.savefig(DIRECTORY / f"{name}.png", dpi=130)
    plt.close(figure)
