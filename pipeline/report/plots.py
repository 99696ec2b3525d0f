"""Where numbers stand in a plot; `templates/plots.html` draws them, in the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import Literal, Self

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from models.networks.epochs import Epoch
from models.trials import Tried
from pipeline.report.curve import LabelCurve
from pipeline.report.reliability import Reliability

templates = Environment(loader=PackageLoader("pipeline", "report/templates"), autoescape=True, trim_blocks=True)
templates.lstrip_blocks = True

STEPS = (1, 2, 5, 10)

Points = Sequence[tuple[float, float]]
Kind = Literal["line", "steps", "dashed", "dots", "muted", "band"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """An axis from `low` to `high`; where it is `logarithmic` both are beyond 0.

    >>> scale = Scale(low=0.5, high=1.0)
    >>> scale.at(0.75), scale.ticks
    (50.0, [0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    """

    low: float
    high: float
    logarithmic: bool = False

    @classmethod
    def over(cls, values: Iterable[float], *, logarithmic: bool = False) -> Self:
        """One with room for all `values` that can stand on it, and a little more."""
        known = [value for value in values if _stands(value, logarithmic)] or [1.0]
        if logarithmic:
            return cls(low=min(known) / 1.1, high=max(known) * 1.1, logarithmic=True)
        room = 0.05 * (max(known) - min(known)) or 0.01
        return cls(low=min(known) - room, high=max(known) + room)

    def has(self, value: float) -> bool:
        """Whether `value` can stand on it at all."""
        return _stands(value, self.logarithmic)

    def at(self, value: float) -> float:
        """Where `value` stands, in per cent of the way."""
        low, high, here = (math.log(each) if self.logarithmic else each for each in (self.low, self.high, value))
        return round(100 * (here - low) / (high - low), 2)

    @property
    def ticks(self) -> list[float]:
        """Round numbers along the axis, a handful."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
            for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
                numbers = [round(step * 10.0**power, 10) for power in powers for step in steps]
                found = [number for number in numbers if self.low <= number <= self.high]
                if len(found) > 2:
                    return found
        step = next(step for step in _round_steps(self.high - self.low) if (self.high - self.low) / step <= 5)
        first, last = math.ceil(round(self.low / step, 6)), math.floor(round(self.high / step, 6))
        return [round(step * number, 10) for number in range(first, last + 1)]


def _stands(value: float, logarithmic: bool) -> bool:
    return math.isfinite(value) and not (logarithmic and value <= 0)


def _round_steps(length: float) -> list[float]:
    power = 10.0 ** (math.floor(math.log10(length)) - 1)
    return [power * step * larger for larger in (1, 10) for step in STEPS]


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Points (x, y) of a plot and how they are drawn; a band's go along its lower edge and back along the upper."""

    kind: Kind
    points: Points
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What is drawn, over axes that have room for all of it.

    `logarithmic` has the letters of axes that are, `shares` of those whose numbers stand in per cent.
    """

    name: str
    x_name: str
    y_name: str
    marks: tuple[Marks, ...]
    logarithmic: str = ""
    shares: str = ""

    @cached_property
    def x(self) -> Scale:
        """The axis across."""
        return Scale.over((x for marks in self.marks for x, _ in marks.points), logarithmic="x" in self.logarithmic)

    @cached_property
    def y(self) -> Scale:
        """The axis upwards."""
        return Scale.over((y for marks in self.marks for _, y in marks.points), logarithmic="y" in self.logarithmic)

    def path(self, marks: Marks) -> list[tuple[float, float]]:
        """Where the points of `marks` stand, in per cent from the left and the top; what cannot stand is not drawn."""
        return [(self.x.at(x), 100 - self.y.at(y)) for x, y in marks.points if self.x.has(x) and self.y.has(y)]


def reliability_plot(found: Reliability) -> Plot:
    """How often what is said with a probability is right; on the dashed line as often as it says."""
    bins = [(each.confidence, each.accuracy) for each in found.bins if each.images]
    least = min(map(min, bins))
    return Plot(
        name="Share that is right by the probability that was given",
        x_name="probability given",
        y_name="right",
        marks=(
            Marks(kind="dashed", points=[(least, least), (1, 1)], name="as it should be"),
            Marks(kind="line", points=bins),
            Marks(kind="dots", points=bins, name="images of a like probability"),
        ),
        shares="xy",
    )


def curve_plots(name: str, curve: LabelCurve) -> tuple[Plot, Plot]:
    """Accuracy and log-loss by how many images were learnt from, with bands; the grey dot is what twice would bring."""
    return (_curve_plot(name, curve, "accuracy"), _curve_plot(name, curve, "log_loss"))


def _curve_plot(name: str, curve: LabelCurve, what: str) -> Plot:
    points = (*curve.points, *([curve.twice] if curve.twice else []))
    low, middle, high = (
        [(float(point.images), float(getattr(point, what + end))) for point in points] for end in ("_low", "", "_high")
    )
    known = len(curve.points)
    return Plot(
        name=f"{what.replace('_', '-')} of {name} by images learnt from",
        x_name="images learnt from",
        y_name=what.replace("_", "-"),
        marks=(
            Marks(kind="band", points=[*low, *reversed(high)], name="95 % band"),
            Marks(kind="line", points=middle[:known]),
            Marks(kind="dots", points=middle[:known], name="measured"),
            Marks(kind="dashed", points=middle[known - 1 :]),
            Marks(kind="muted", points=middle[known:], name="to be expected of twice as many" if curve.twice else ""),
        ),
        logarithmic="x",
        shares="y" if what == "accuracy" else "",
    )


def search_plot(name: str, trials: Sequence[Tried]) -> Plot:
    """Validation log-loss of each of the settings tried, in order, and the lowest so far; what was pruned is muted."""
    losses = [(trial.number, np.nan if trial.loss is None else trial.loss) for trial in trials]  # beyond all numbers
    complete = np.array([trial.state == "complete" for trial in trials])
    lowest = np.fmin.accumulate(np.where(complete, [loss for _, loss in losses], np.nan))
    return Plot(
        name=f"Validation log-loss of the settings tried for {name}",
        x_name="settings tried",
        y_name="validation log-loss",
        marks=(
            Marks(kind="dashed", points=[losses[0], (losses[-1][0], losses[0][1])], name="as given"),
            Marks(kind="steps", points=list(enumerate(lowest.tolist())), name="lowest so far"),
            Marks(kind="muted", points=list(compress(losses, ~complete)), name="given up"),
            Marks(kind="dots", points=list(compress(losses, complete)), name="tried"),
        ),
        logarithmic="y",
    )


def history_plot(history: Sequence[Epoch]) -> Markup:
    """Losses and validation accuracy of each epoch, one above the other, as SVG."""
    loss = [(epoch.epoch, epoch.loss) for epoch in history]
    validation = [(epoch.epoch, epoch.validation_loss) for epoch in history]
    right = [(epoch.epoch, epoch.validation_accuracy) for epoch in history]
    losses = (
        Marks(kind="dashed", points=loss, name="training, of what it sees"),
        Marks(kind="line", points=validation, name="validation"),
    )
    accuracy = (Marks(kind="line", points=right),)
    plots = (
        Plot(name="Loss by epoch", x_name="epoch", y_name="loss", marks=losses),
        Plot(name="Accuracy by epoch", x_name="epoch", y_name="validation accuracy", marks=accuracy, shares="y"),
    )
    return drawn(plots)


def drawn(plots: Sequence[Plot]) -> Markup:
    """Plots one above the other, as SVG."""
    return Markup(templates.get_template("plots.svg").render(plots=plots))
