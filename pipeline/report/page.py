"""Numbers to pages: the comparison as a table on the terminal and as one HTML file that needs no other."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from features.errors import counted
from features.storage import Json
from features.trunk.spec import TrunkSpec
from models.networks.settings import NETWORK
from pipeline.console import result, result_table
from pipeline.inspection.finding import pictured as pictured_of
from pipeline.report.curve import worth
from pipeline.report.html import write_page
from pipeline.report.mistakes import FEW_CLASSES, FOREMOST, PAIRS, Mistake
from pipeline.report.plots import Scale, curve_plots, reliability_plot, search_plot
from pipeline.report.result import Comparison, ContenderResult
from pipeline.report.splits import few_test_images
from pipeline.report.statistics import ClassRates, wilson

COLUMNS = ("accuracy %", "95 % interval", "F1 %", "log-loss", "fit s", "µs/image", "MB")
"""What `cells` has: F1 is the macro mean (of classes that have test images), µs/image the prediction from features, for
the retrained network from image files, MB the file that it reads."""

WORSE = "! on unseen images no better than a guess by the classes' frequencies (log-loss)"
"""What the mark beside a head's name means."""

CLASSES_SHOWN = 40
"""Classes that a table has at once; more are folded."""

Row = tuple[str, float, float, float]
"""A name, a value, and the interval around it."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A class taken for another, by number: in how many images, and those `mistakes` that were kept."""

    true: int
    predicted: int
    count: int
    mistakes: tuple[Mistake, ...]

    @property
    def anchor(self) -> str:
        """Where the page shows it."""
        return f"pair-{self.true}-{self.predicted}"


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """How a class does: its `recall` with a 95 % interval, where it has images, and what it is most often taken for."""

    number: int
    rates: ClassRates
    interval: tuple[float, float] | None
    confused: Pair | None


def marked(name: str, head: ContenderResult) -> str:
    """A head's name, and a mark where it does no better than a guess."""
    return f"{name} !" if head.worse_than_guess else name


def answer(comparison: Comparison) -> tuple[str, ...]:
    """Which head to ship and how often it is right, and how often one would be without looking, in a sentence each."""
    shipped, largest = comparison.shipped, comparison.classes[_largest(comparison)]
    interval = f"95 % interval {100 * shipped.accuracy_low:.1f} to {shipped.accuracy_high:.1%}"
    return (
        f"Ship {comparison.recommended.name}: right in {shipped.accuracy:.1%} ({interval}), "
        f"tested on {tested(comparison)}.",
        f"Always saying the largest class ({largest}) would be right in {comparison.largest_class:.1%}.",
        *on_given_test(comparison),
        *on_leaks(comparison),
    )


def on_given_test(comparison: Comparison) -> list[str]:
    """What the shipped classifier makes of a test split that was given and that no fold has touched, in a sentence."""
    scores = comparison.given_test
    if scores is None:
        return []
    interval = f"95 % interval {100 * scores.accuracy_low:.1f} to {scores.accuracy_high:.1%}"
    given = f"{comparison.rows['test']:,} test images that were given"
    return [f"Of the {given}, it has {scores.accuracy:.1%} right ({interval})."]


def on_leaks(comparison: Comparison) -> list[str]:
    """What accuracy would be without the images whose doubles were learnt from, where it would be another."""
    return [
        f"Without {counted(each.images, 'image')} whose doubles were learnt from, it is right in {each.without:.1%}."
        for each in comparison.findings
        if each.code == "leak" and each.without is not None and f"{each.accuracy:.1%}" != f"{each.without:.1%}"
    ]


def tested(comparison: Comparison) -> str:
    """The images that figures are of."""
    if not comparison.folds:
        return f"{comparison.images:,} test images"
    return f"each of {comparison.images:,} images by classifiers that had not seen it ({comparison.folds} folds)"


def _largest(comparison: Comparison) -> int:
    """The class that has most of the tested images."""
    return max(range(len(comparison.classes)), key=lambda number: comparison.shipped.by_class[number].support)


def summary_table(comparison: Comparison) -> None:
    """Print one row a head."""
    result(_title(comparison))
    rows = [(marked(name, head), *cells(head)) for name, head in comparison.heads.items()]
    result_table(("head", *COLUMNS), rows)
    if any(head.worse_than_guess for head in comparison.heads.values()):
        result(WORSE)


def cells(head: ContenderResult) -> tuple[str, ...]:
    """A head's figures as they are shown, in the order of COLUMNS."""
    return (
        f"{100 * head.accuracy:.2f}",
        f"{100 * head.accuracy_low:.2f}–{100 * head.accuracy_high:.2f}",
        f"{100 * head.macro_f1:.2f}",
        f"{head.log_loss:.4f}",
        f"{head.fit_seconds:.1f}",
        "–" if head.predict_us_per_image is None else f"{head.predict_us_per_image:.1f}",
        f"{head.bytes / 1e6:.1f}",
    )


def write_report(path: Path, comparison: Comparison, pictures: Mapping[str, str] | None) -> None:
    """Write `report.html` with `pictures`, data: URIs by key; None where images are not to be shown."""
    every_pair, nodes = _pairs(comparison), _node_rows(comparison)
    few_classes = len(comparison.classes) <= FEW_CLASSES
    pairs = every_pair if few_classes else every_pair[:PAIRS]
    write_page(
        path,
        "report.html",
        made=comparison.made,
        comparison=comparison,
        shipped=comparison.shipped,
        title=_title(comparison),
        tested=tested(comparison),
        largest=comparison.classes[_largest(comparison)],
        command=shlex.join(["treehead", "predict", comparison.shipped.file, "photo.jpg"]),
        network=NETWORK,
        marked=marked,
        worse=WORSE,
        notes=_notes(comparison),
        scored=[(marked(name, head), *_accuracy(head)) for name, head in comparison.heads.items()],
        scored_more=[(f"{100 * head.macro_f1:.2f}", f"{head.log_loss:.4f}") for head in comparison.heads.values()],
        differences=[(f"{d.first} − {d.second}", d.difference, d.low, d.high) for d in comparison.differences],
        scale=lambda rows: Scale.over(number for row in rows for number in row[1:]),
        pictures=pictures,
        absent=len(set(pictured(comparison)) - set(pictures or {})),
        foremost=FOREMOST,
        pairs=pairs,
        anchors={(each.true, each.predicted): each.anchor for each in pairs if each.mistakes},
        matrix=comparison.shipped.confusion_matrix if few_classes else None,
        class_rows=_class_rows(comparison.shipped.by_class, every_pair),
        classes_shown=CLASSES_SHOWN,
        reliability_plot=reliability_plot,
        curve_plots=curve_plots,
        worth=worth,
        more_of_answer=[*on_given_test(comparison), *on_leaks(comparison)],
        search_plot=search_plot,
        node_rows=[row for row, _ in nodes],
        node_more=[more for _, more in nodes],
        features=features_in_words(comparison.trunks),
        in_words=in_words,
    )


def _accuracy(head: ContenderResult) -> tuple[float, float, float]:
    return head.accuracy, head.accuracy_low, head.accuracy_high


def _notes(comparison: Comparison) -> list[str]:
    """What to be careful of, in a sentence each."""
    counts = (each.support for each in comparison.shipped.by_class)
    notes = [f"{line}." for line in few_test_images(dict(zip(comparison.classes, counts, strict=True)))]
    if not comparison.transfer_learning:
        notes.append("Random weights: the network has learnt nothing, so this is no transfer learning.")
    if comparison.test_duplicates and not comparison.findings:
        of = f"{comparison.test_duplicates} of {comparison.rows.get('test', 0):,} test images"
        notes.append(f"{of} are, byte for byte, among the training or validation images as well.")
    if comparison.unreadable:
        notes.append(f"{comparison.unreadable} images could not be read and are in no figure here.")
    notes += [f"{name} failed and is in no figure here: {reason}" for name, reason in comparison.failed.items()]
    return notes


def pictured(comparison: Comparison) -> list[str]:
    """The keys of the images that the page shows: mistakes, and what is like the most confident of them."""
    alike = [like.key for each in comparison.mistakes[:FOREMOST] for like in each.alike]
    return [*(each.key for each in comparison.mistakes), *alike, *pictured_of(comparison.findings)]


def _pairs(comparison: Comparison) -> list[Pair]:
    """Which classes are taken for which, most often first, as far as that was kept."""
    shown: dict[tuple[int, int], list[Mistake]] = {}
    for mistake in comparison.mistakes:
        shown.setdefault((mistake.true, mistake.predicted), []).append(mistake)
    shipped = comparison.shipped
    counts = [(each.true, each.predicted, each.count) for each in shipped.confusions]
    if shipped.confusion_matrix is not None:
        matrix = enumerate(shipped.confusion_matrix)
        wrong = [(i, j, count) for i, row in matrix for j, count in enumerate(row) if count and i != j]
        counts = sorted(wrong, key=lambda each: -each[2])
    return [
        Pair(true=true, predicted=predicted, count=count, mistakes=tuple(shown.get((true, predicted), ())))
        for true, predicted, count in counts
    ]


def _class_rows(classes: Sequence[ClassRates], pairs: Sequence[Pair]) -> list[ClassRow]:
    """Every class, from the worst to the best recall; those without images last."""
    rows = [
        ClassRow(
            number=number,
            rates=rates,
            interval=None if rates.recall is None else wilson(rates.recall, rates.support),
            confused=next((pair for pair in pairs if pair.true == number), None),
        )
        for number, rates in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: 2.0 if row.rates.recall is None else row.rates.recall)


def _title(comparison: Comparison) -> str:
    return f"{comparison.dataset}, {tested(comparison)}, {features_in_words(comparison.trunks)}"


def features_in_words(trunks: Sequence[TrunkSpec]) -> str:
    """Which nodes of which networks, with which weights.

    `alexnet.avgpool with bundled weights, resnet18.layer3, layer4 with imagenet weights`
    """
    networks = [list(of_one) for _, of_one in groupby(trunks, lambda trunk: (trunk.backbone, trunk.weights))]
    return ", ".join(
        f"{of_one[0].backbone}.{', '.join(trunk.node for trunk in of_one)} with {of_one[0].weights} weights"
        for of_one in networks
    )


def _node_rows(comparison: Comparison) -> list[tuple[Row, tuple[str, str]]]:
    """What a linear probe made of each node, of all side by side and of the selected; log-loss and µs/image of each."""
    nodes, costs = comparison.nodes, comparison.network_us
    if nodes is None:
        return []
    named = {each.nodes[0]: each for each in nodes.alone} | {"side by side": nodes.together, "selected": nodes.best}
    return [
        ((name, each.accuracy, *wilson(each.accuracy, nodes.rows)), (f"{each.log_loss:.3f}", _cost(each.nodes, costs)))
        for name, each in named.items()
    ]


def _cost(nodes: Sequence[str], costs: Mapping[str, float | None]) -> str:
    """Microseconds an image of the networks that `nodes` are of, where each was measured; reading counts for each."""
    of_networks = [us for name, us in costs.items() if any(node.startswith(f"{name}.") for node in nodes)]
    known = [us for us in of_networks if us is not None]
    return f"{sum(known):,.0f}" if len(known) == len(of_networks) else "–"


def in_words(value: Json) -> str:
    """A setting as people read it.

    >>> in_words([0.3, 1, True, None])
    '0.3, 1, yes, not set'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(in_words, value)) or "none"
    if value is None or value == "":
        return "not set"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
