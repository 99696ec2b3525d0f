"""Numbers to pages: the comparison as a table on the terminal and as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader

from features.storage import replacing
from models.networks.settings import NETWORK
from pipeline.console import result, result_table
from pipeline.report.plots import accuracy_plot, confusion_plot, depth_plot, difference_plot, search_plot
from pipeline.report.result import Comparison, HeadResult
from pipeline.report.splits import few_test_images

_loader = PackageLoader("pipeline", "report")
_templates = Environment(loader=_loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)

COLUMNS = ("accuracy %", "95 % interval", "F1 %", "log-loss", "fit s", "µs/image", "MB")
"""What `cells` has: F1 is the macro mean (of classes that have test images), µs/image the prediction from features, for
the retrained network from image files, MB the file that it reads."""


WORSE = "! on validation images no better than a guess by the classes' frequencies (log-loss)"
"""What the mark beside a head's name means."""


def marked(name: str, head: HeadResult) -> str:
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
    heads, depths = comparison.heads, comparison.depths
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
        depths=depth_plot(depths, comparison.rows["validation"]) if depths else None,
        confusion={
            name: confusion_plot(head.confusion_matrix, comparison.classes)
            for name, head in heads.items()
            if head.confusion_matrix
        },
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def cells(head: HeadResult) -> tuple[str, ...]:
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
    trunk, nodes = comparison.trunks[0], ", ".join(trunk.node for trunk in comparison.trunks)
    return (
        f"{comparison.dataset}, {comparison.rows['test']:,} test images, "
        f"{trunk.backbone}.{nodes} with {trunk.weights} weights"
    )
