"""The rows of a run as a table: Markdown for files, rich for the terminal, columns for the page."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from limbeck.report.rows import (
    Row,
    best_value,
    identity,
    latency,
    model_name,
    number,
    precision_name,
    runtime_name,
    short,
    sound,
    text,
)

__all__ = ["FULL", "SCORES", "Column", "agreement", "console", "known", "markdown", "note"]

NOTHING = "No rows: nothing was evaluated or benchmarked."


@dataclass(frozen=True)
class Column:
    """One number of a row: its title with the unit, how it is read and written, and which end is better."""

    title: str
    read: Callable[[Row], float | None]
    write: Callable[[float | None], str] = text
    higher_is_better: bool | None = None

    def best(self, rows: list[Row]) -> float | None:
        """The best value among real runs; None where nothing is better or all are equal."""
        if self.higher_is_better is None:
            return None
        return best_value((self.read(row) for row in rows if sound(row)), self.higher_is_better)

    def is_best(self, row: Row, best: float | None) -> bool:
        """Whether the row reads the same as the best."""
        return best is not None and sound(row) and self.write(self.read(row)) == self.write(best)


def _of(key: str) -> Callable[[Row], float | None]:
    return lambda row: number(row, key)


def _two(value: float | None) -> str:
    return text(value, 2)


def agreement(value: float | None) -> str:
    """Points with two decimals, rounded down: only full agreement reads 100.00."""
    return text(value if value is None else math.floor(value * 100 + 1e-9) / 100, 2)


def _whole(value: float | None) -> str:
    return text(value, 0)


def _percent(value: float | None) -> str:
    return text(None) if value is None else f"{value:.0%}"


def _against_fp32(row: Row) -> float | None:
    # The reference agrees with itself: 100 would only hide the numbers that matter.
    return None if identity(row) == "student.fp32.eager" else number(row, "agreement")


BRIEF = (
    Column("mIoU", _of("miou"), _two, higher_is_better=True),
    Column("Accuracy", _of("accuracy"), _two, higher_is_better=True),
    Column("Latency ms", latency, short, higher_is_better=False),
    Column("p95 ms", lambda row: latency(row, "p95"), short, higher_is_better=False),
    Column("File MB", _of("file_mb"), short, higher_is_better=False),
    Column("Agreement", _against_fp32, agreement),
    Column("Pixel acc.", _of("pixel_accuracy"), higher_is_better=True),
    Column("Params M", _of("params_m"), short),
)
FULL = (
    *BRIEF,
    Column("GMACs", _of("macs_g"), short),
    Column("End to end ms", _of("end_to_end_ms"), short, higher_is_better=False),
    Column("Images/s", _of("throughput_ips"), higher_is_better=True),
    Column("RAM MB", _of("peak_rss_mb"), _whole, higher_is_better=False),
    Column("GPU MB", _of("peak_gpu_mb"), _whole, higher_is_better=False),
    Column("In INT8", _of("int8_coverage"), _percent),
)
CONSOLE = frozenset({"mIoU", "Accuracy", "Latency ms", "File MB", "Agreement"})
SCORES = (
    Column("Top-5 acc.", _of("top5_accuracy"), _two, higher_is_better=True),
    Column("Mean acc.", _of("mean_accuracy"), _two, higher_is_better=True),
    Column("Mean Dice", _of("mean_dice"), _two, higher_is_better=True),
    Column("Boundary IoU", _of("boundary_iou"), _two, higher_is_better=True),
    Column("Frequency-weighted IoU", _of("fw_iou"), _two, higher_is_better=True),
)


def known(wanted: tuple[Column, ...], rows: list[Row]) -> list[Column]:
    """Of ``wanted``, the columns in which any row has a value."""
    return [column for column in wanted if any(column.read(row) is not None for row in rows)]


def note(row: Row) -> str:
    """Why a row's numbers are missing or not to be trusted; empty when all is well."""
    if row.get("error"):
        return f"failed: {' '.join(str(row['error']).split())}"
    if row.get("simulated"):
        return "simulated: not the speed of the real thing"
    if row.get("runtime") == "eager" and str(row.get("precision")).startswith("int"):
        return "parity reference, not timed"
    return ""


def markdown(rows: list[Row]) -> str:
    """The rows as a Markdown table, best values bold; one sentence when there are none."""
    if not rows:
        return NOTHING + "\n"
    shown, noted = known(BRIEF, rows), any(note(row) for row in rows)
    titles = ["Model", "Precision", "Runtime", *(column.title for column in shown), *(["Note"] if noted else [])]
    rule = [":--"] * 3 + ["--:"] * len(shown) + [":--"] * noted
    best = [column.best(rows) for column in shown]
    lines = [titles, rule, *(_cells(row, shown, best) + [_plain(note(row))] * noted for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(row: Row, shown: list[Column], best: list[float | None]) -> list[str]:
    names = [_plain(name(row)) for name in (model_name, precision_name, runtime_name)]
    return names + [_bold(column, row, highest, "**{}**") for column, highest in zip(shown, best, strict=True)]


def _bold(column: Column, row: Row, best: float | None, form: str) -> str:
    said = column.write(column.read(row))
    return form.format(said) if column.is_best(row, best) else said


def _plain(words: str) -> str:
    """Words that neither Markdown nor the HTML it becomes can mistake for markup."""
    return html.escape(words, quote=False).replace("|", "\\|")


def console(rows: list[Row]) -> Table:
    """The rows as a table for 80 columns of a terminal: best values green, failed rows dimmed and explained below."""
    shown = [column for column in known(BRIEF, rows) if column.title in CONSOLE]
    told = [f"{_network(row)} in {runtime_name(row)}: {note(row)}" for row in rows if not sound(row)]
    caption = escape("\n".join(told) if rows else NOTHING)
    table = Table(
        box=None, header_style="bold", pad_edge=False, caption=caption, caption_style="yellow", caption_justify="left"
    )
    for title in ("Model", "Runtime"):
        table.add_column(title)
    for column in shown:
        table.add_column(column.title, justify="right", no_wrap=True)
    best = [column.best(rows) for column in shown]
    for row in rows:
        numbers = (_bold(c, row, highest, "[bold green]{}[/]") for c, highest in zip(shown, best, strict=True))
        names = escape(_network(row)), escape(runtime_name(row))
        table.add_row(*names, *numbers, style="" if sound(row) else "dim")
    return table


def _network(row: Row) -> str:
    return f"{model_name(row)} {precision_name(row)}"
