"""Numbers to pages: the comparison as a table on the terminal and as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich.table import Table

from features.storage import replacing
from pipeline.console import result, result_table
from pipeline.report.plots import accuracy_plot, confusion_plot, depth_plot, difference_plot, search_plot

_loader = PackageLoader("pipeline", "report")
_templates = Environment(loader=_loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)

Metrics = dict[str, Any]
"""The content of `metrics.json`, or a part of it (see `pipeline.stages.compare.measure`)."""

COLUMNS = ("accuracy %", "95 % interval", "F1 %", "log-loss", "fit s", "µs/image", "MB")
"""What `head_rows` has: F1 is the macro mean, µs/image the prediction from features, for finetune from image files, MB
the file that it reads."""


def summary_table(metrics: Metrics) -> None:
    """Print one row a head."""
    result(_title(metrics))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("head", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for name, row in head_rows(metrics).items():
        table.add_row(name, *row)
    result_table(table)


def write_report(path: Path, metrics: Metrics) -> None:
    """Write `report.html`, pictures included."""
    page = _templates.get_template("template.html").render(
        metrics=metrics,
        title=_title(metrics),
        columns=COLUMNS,
        rows=head_rows(metrics),
        accuracy=accuracy_plot(metrics["heads"]),
        difference=difference_plot(metrics["differences"]),
        searches={name: search_plot(trials) for name, trials in metrics["tuning"].items()},
        depths=depth_plot(metrics["depths"], metrics["rows"]["validation"]) if metrics["depths"] else None,
        confusion={
            name: confusion_plot(head["confusion_matrix"], metrics["classes"])
            for name, head in metrics["heads"].items()
        },
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def head_rows(metrics: Metrics) -> dict[str, list[str]]:
    """Each head's figures as they are shown, in the order of COLUMNS."""
    return {
        name: [
            f"{100 * head['accuracy']:.2f}",
            f"{100 * head['accuracy_low']:.2f}–{100 * head['accuracy_high']:.2f}",
            f"{100 * head['macro_f1']:.2f}",
            f"{head['log_loss']:.4f}",
            f"{head['fit_seconds']:.1f}",
            "–" if head["predict_us_per_image"] is None else f"{head['predict_us_per_image']:.1f}",
            f"{head['bytes'] / 1e6:.1f}",
        ]
        for name, head in metrics["heads"].items()
    }


def _title(metrics: Metrics) -> str:
    trunk, nodes = metrics["trunks"][0], ", ".join(trunk["node"] for trunk in metrics["trunks"])
    return (
        f"{metrics['dataset']}, {metrics['rows']['test']:,} test images, "
        f"{trunk['backbone']}.{nodes} with {trunk['weights']} weights"
    )
