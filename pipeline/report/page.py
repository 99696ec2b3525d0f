"""Numbers to pages: the comparison as a table on the terminal and as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader

from features.storage import replacing
from features.trunk.spec import TrunkSpec
from models.networks.settings import NETWORK
from pipeline.console import result, result_table
from pipeline.report.plots import accuracy_plot, confusion_plot, difference_plot, node_plot, search_plot
from pipeline.report.result import Comparison, ContenderResult
from pipeline.report.splits import few_test_images

_loader = PackageLoader("pipeline", "report")
_templates = Environment(loader=_loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)

COLUMNS = ("accuracy %", "95 % interval", "F1 %", "log-loss", "fit s", "µs/image", "MB")
"""What `cells` has: F1 is the macro mean (of classes that have test images), µs/image the prediction from features, for
the retrained network from image files, MB the file that it reads."""

NODE_COLUMNS = ("accuracy %", "log-loss", "µs/image")
"""What `node_rows` has: of a linear probe, and what the features of the node's network cost."""

WORSE = "! on validation images no better than a guess by the classes' frequencies (log-loss)"
"""What the mark beside a head's name means."""


def marked(name: str, head: ContenderResult) -> str:
    """A head's name, and a mark where it does no better than a guess."""
    return f"{name} !" if head.worse_than_guess else name


def summary_table(comparison: Comparison) -> None:
    """Print one row a head."""
    result(_title(comparison))
    rows = [(marked(name, head), *cells(head)) for name, head in comparison.heads.items()]
    result_table(("head", *COLUMNS), rows)
    if any(head.worse_than_guess for head in comparison.heads.values()):
        result(WORSE)


def write_report(path: Path, comparison: Comparison) -> None:
    """Write `report.html`, pictures included."""
    heads, nodes = comparison.heads, comparison.nodes
    page = _templates.get_template("template.html").render(
        comparison=comparison,
        title=_title(comparison),
        network=NETWORK,
        columns=COLUMNS,
        rows={name: cells(head) for name, head in heads.items()},
        marked=marked,
        worse=WORSE,
        few=few_test_images(_test_images(comparison)),
        accuracy=accuracy_plot(heads),
        difference=difference_plot(comparison.differences),
        searches={name: search_plot(trials) for name, trials in comparison.tuning.items()},
        nodes=node_plot(nodes) if nodes else None,
        node_rows=node_rows(comparison),
        node_columns=NODE_COLUMNS,
        features=features_in_words(comparison.trunks),
        confusion={
            name: confusion_plot(head.confusion_matrix, comparison.classes)
            for name, head in heads.items()
            if head.confusion_matrix
        },
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


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


def _test_images(comparison: Comparison) -> dict[str, int]:
    """How many test images each class has."""
    counts = (each.support for each in comparison[comparison.best].by_class)
    return dict(zip(comparison.classes, counts, strict=True))


def _title(comparison: Comparison) -> str:
    images = f"{comparison.dataset}, {comparison.rows['test']:,} test images"
    return f"{images}, {features_in_words(comparison.trunks)}"


def features_in_words(trunks: Sequence[TrunkSpec]) -> str:
    """Which nodes of which networks, with which weights.

    `alexnet.avgpool with bundled weights, resnet18.layer3, layer4 with imagenet weights`
    """
    networks = [list(of_one) for _, of_one in groupby(trunks, lambda trunk: (trunk.backbone, trunk.weights))]
    return ", ".join(
        f"{of_one[0].backbone}.{', '.join(trunk.node for trunk in of_one)} with {of_one[0].weights} weights"
        for of_one in networks
    )


def node_rows(comparison: Comparison) -> dict[str, tuple[str, ...]]:
    """What a linear probe made of each node, of all side by side and of the selected, as NODE_COLUMNS has it."""
    nodes, costs = comparison.nodes, comparison.network_us
    if nodes is None:
        return {}
    named = {each.nodes[0]: each for each in nodes.alone} | {"side by side": nodes.together, "selected": nodes.best}
    return {
        name: (f"{100 * each.accuracy:.1f}", f"{each.log_loss:.3f}", _cost(each.nodes, costs))
        for name, each in named.items()
    }


def _cost(nodes: Sequence[str], costs: Mapping[str, float | None]) -> str:
    """Microseconds an image of the networks that `nodes` are of, where each was measured; reading counts for each."""
    of_networks = [us for name, us in costs.items() if any(node.startswith(f"{name}.") for node in nodes)]
    known = [us for us in of_networks if us is not None]
    return f"{sum(known):,.0f}" if len(known) == len(of_networks) else "–"
