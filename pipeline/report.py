"""Numbers to pages: the comparison as a table on the terminal and as one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich.table import Table

from features.storage import replacing
from pipeline.console import result_table
from pipeline.plots import accuracy_plot, confusion_plot, difference_plot

_templates = Environment(loader=PackageLoader("pipeline"), autoescape=True, trim_blocks=True, lstrip_blocks=True)

Metrics = dict[str, Any]


def summary_table(metrics: Metrics) -> None:
    """Print one row a head."""
    table = Table(title=_title(metrics), title_justify="left", title_style="bold")
    table.add_column("head")
    for name in ("accuracy %", "95 % interval", "macro F1 %", "log-loss", "fit s", "predict µs", "size"):
        table.add_column(name, justify="right")
    for name, row in head_rows(metrics).items():
        table.add_row(name, *row)
    result_table(table)


def write_report(path: Path, metrics: Metrics) -> None:
    """Write `report.html`, pictures included."""
    page = _templates.get_template("report.html").render(
        metrics=metrics,
        title=_title(metrics),
        rows=head_rows(metrics),
        accuracy=accuracy_plot(metrics["heads"]),
        difference=difference_plot(metrics["differences"]),
        confusion={
            name: confusion_plot(head["confusion_matrix"], metrics["classes"])
            for name, head in metrics["heads"].items()
        },
    )
    with replacing(path) as scratch:
        scratch.write_text(page, encoding="utf-8")


def head_rows(metrics: Metrics) -> dict[str, list[str]]:
    """Each head's figures as they are shown: accuracy, interval, F1, log-loss, fit, predict, size."""
    return {
        name: [
            f"{100 * head['accuracy']:.2f}",
            f"{100 * head['accuracy_low']:.2f} to {100 * head['accuracy_high']:.2f}",
            f"{100 * head['macro_f1']:.2f}",
            f"{head['log_loss']:.4f}",
            f"{head['fit_seconds']:.1f}",
            f"{head['predict_us_per_image']:.1f}",
            _size(head["bytes"]),
        ]
        for name, head in metrics["heads"].items()
    }


def _title(metrics: Metrics) -> str:
    trunk = metrics["trunk"]
    return (
        f"{metrics['dataset']}, {metrics['rows']['test']:,} test images, "
        f"{trunk['backbone']}.{trunk['node']} with {trunk['weights']} weights"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
