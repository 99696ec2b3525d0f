"""Pictures, as SVG text: accuracies and differences with their intervals, confusion matrices, and what is learnt."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter

from models.columns.nodes import NodeScores
from models.networks.epochs import Epoch
from models.trials import Tried
from pipeline.report.curve import Curves
from pipeline.report.simultaneous import Difference
from pipeline.report.statistics import Scores, wilson

INK, ACCENT, MUTED = "#1f2933", "#0b6e4f", "#7b8794"
LONGEST_NAME = 24

ANNOTATED_CLASSES = 20
"""Up to this many classes a confusion matrix writes its counts and names; beyond, only its colours are readable."""


@contextmanager
def _plain_style() -> Iterator[None]:
    """Matplotlib's defaults and ours, whatever a person's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "treehead", "svg.fonttype": "none", "font.family": "sans-serif"})
        yield


@_plain_style()
def accuracy_plot(heads: Mapping[str, Scores]) -> Markup:
    """Accuracy of each head with its interval, the best at the top."""
    figure, axes = _row_figure(len(heads))
    values = [(head.accuracy, head.accuracy_low, head.accuracy_high) for head in heads.values()]
    _draw_intervals(axes, list(heads), values)
    axes.set_xlabel("accuracy on the test images, 95 % interval")
    return _svg(figure)


@_plain_style()
def difference_plot(differences: Sequence[Difference]) -> Markup:
    """Paired differences with their intervals; what crosses zero cannot be told apart."""
    figure, axes = _row_figure(len(differences))
    values = [(pair.difference, pair.low, pair.high) for pair in differences]
    _draw_intervals(axes, [f"{pair.first} − {pair.second}" for pair in differences], values)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_xlabel("difference in accuracy on the same images, 95 % of all pairs together")
    return _svg(figure)


@_plain_style()
def node_plot(nodes: NodeScores) -> Markup:
    """Accuracy of a linear probe on each node, on all side by side, and on those that are worth their place."""
    scores = (*nodes.alone, nodes.together, nodes.best)
    figure, axes = _row_figure(len(scores))
    values = [(score.accuracy, *wilson(score.accuracy, nodes.rows)) for score in scores]
    _draw_intervals(axes, [*(score.nodes[0] for score in nodes.alone), "side by side", "selected"], values)
    axes.set_xlabel("accuracy on images that the probe has not seen, 95 % interval")
    return _svg(figure)


@_plain_style()
def confusion_plot(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> Markup:
    """A confusion matrix, true classes down, predicted across, coloured by the share of each true class."""
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = len(classes) <= ANNOTATED_CLASSES
    side = 1.6 + 0.38 * len(classes) if few else 6.0
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true")
    if few:
        names = [_plain(name) for name in classes]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return _svg(figure)


@_plain_style()
def search_plot(trials: Sequence[Tried]) -> Markup:
    """Validation log-loss of each of the settings tried, in order, and the lowest so far; what was pruned is muted."""
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    for state, colour in (("pruned", MUTED), ("complete", ACCENT)):
        dots = [(trial.number, _drawn(trial.loss)) for trial in trials if trial.state == state]
        axes.plot(*zip(*dots, strict=True) if dots else ([], []), "o", color=colour, markersize=4, label=state)
    losses = [_drawn(trial.loss) if trial.state == "complete" else np.nan for trial in trials]
    axes.plot(np.fmin.accumulate(losses), color=ACCENT, drawstyle="steps-post", linewidth=1, label="lowest so far")
    axes.axhline(losses[0], color=MUTED, linestyle="--", linewidth=1, label="as given")
    axes.set(xlabel="settings tried", ylabel="validation log-loss", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:.3g}")
    axes.yaxis.set_minor_locator(NullLocator())
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return _svg(figure)


@_plain_style()
def history_plot(history: list[Epoch]) -> Markup:
    """Losses and validation accuracy of each epoch, one above the other."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    losses, accuracy = figure.subplots(2, sharex=True)
    numbers = [epoch.epoch for epoch in history]
    losses.plot(numbers, [epoch.loss for epoch in history], color=MUTED, label="training, of what it sees")
    losses.plot(numbers, [epoch.validation_loss for epoch in history], color=ACCENT, label="validation")
    losses.set(ylabel="loss")
    losses.legend(frameon=False, fontsize=8)
    accuracy.plot(numbers, [epoch.validation_accuracy for epoch in history], color=ACCENT)
    accuracy.set(xlabel="epoch", ylabel="validation accuracy")
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0))
    accuracy.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (losses, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e7eb")
    return _svg(figure)


@_plain_style()
def curve_plot(curves: Curves) -> Markup:
    """Accuracy and log-loss by images to learn from, with bands, and dashed what twice of them would bring."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    panes = figure.subplots(1, 2)
    for axes, what in zip(panes, ("accuracy", "log_loss"), strict=True):
        for (name, curve), colour in zip(curves.items(), cycle((ACCENT, INK, MUTED)), strict=False):
            points = [*curve.points, *filter(None, [curve.twice])]
            images, known = [point.images for point in points], slice(len(curve.points))
            values, low, high = ([getattr(point, f"{what}{end}") for point in points] for end in ("", "_low", "_high"))
            axes.fill_between(images, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(images[known], values[known], "o-", color=colour, markersize=4, label=name)
            axes.plot(images[-2:], values[-2:], "o--", color=colour, markersize=4, markerfacecolor="white", zorder=1)
        axes.set(xlabel="images to learn from", ylabel=what.replace("_", "-"), xscale="log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e7eb")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
    panes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(*panes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return _svg(figure)


def _drawn(loss: float | None) -> float:
    """Where a loss is drawn; nowhere if it went beyond all numbers."""
    return np.nan if loss is None else loss


def _row_figure(rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 0.9 + 0.4 * rows), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", color="#e4e7eb")
    axes.set_axisbelow(True)
    return figure, axes


def _draw_intervals(axes: Axes, names: list[str], values: list[tuple[float, float, float]]) -> None:
    """A dot and a whisker a row, the first at the top; `values` are (value, low, high)."""
    for row, (value, low, high) in enumerate(values):
        axes.plot([low, high], [row, row], color=ACCENT, linewidth=2)
        axes.plot(value, row, "o", color=ACCENT)
        axes.annotate(f"{100 * value:.2f}", (value, row), (0, 7), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _plain(name: str) -> str:
    """Show a class's name as it is: a dollar sign begins no formula, and a long name ends in an ellipsis."""
    shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return shown.replace("$", r"\$")


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])
