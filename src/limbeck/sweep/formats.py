"""A sweep's table as Markdown, CSV, LaTeX and for the terminal."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.markup import escape
from rich.table import Table

from limbeck.report.rows import POINTS, SCORES, TIMES, UNKNOWN, precision_name, runtime_name, short, text

__all__ = ["best", "columns", "console", "csv_text", "file_columns", "interval", "latex", "markdown", "signed"]

Json = dict[str, Any]
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True)
class Column:
    """One column: its title, a row's words in it; whether it stands in the terminal's narrow table, and is a cost."""

    title: str
    write: Callable[[Json], str]
    brief: bool = False
    cost: bool = False


def _with_deviation(row: Json) -> str:
    spread = "" if row["sd"] is None else f" {PLUS_MINUS} {text(row['sd'], 2)}"
    return text(row["mean"], 2) + spread


def signed(value: float | None) -> str:
    """Points with their sign."""
    return UNKNOWN if value is None else ("+" if value >= 0 else "") + text(value, 2)


def _gain(row: Json) -> str:
    return signed(row["gain"]["value"]) if row["gain"] else UNKNOWN


def interval(found: Json | None) -> str:
    """The widest interval that is known."""
    span = found and (found.get("whole") or found.get("images"))
    return f"{signed(span[0])} to {signed(span[1])}" if span else UNKNOWN


def _seeds(row: Json) -> str:
    done, wanted = len(row["seeds"]), row["wanted"]
    return str(done) if done == wanted else f"{done} of {wanted}"


def _in_time(row: Json) -> str:
    found = row["equal_time"]
    return f"{signed(found['value'])} ({'' if found['resolved'] else 'not '}resolved)" if found else UNKNOWN


def _at_end(row: Json) -> str:
    """What stands in for the gain in equal time where no control trained for as long."""
    found = None if row["equal_time"] else row["at_control_end"]
    return signed(found["value"]) if found else UNKNOWN


def _training(row: Json) -> str:
    minutes = row["training_hours"] and 60 * row["training_hours"]
    return short(minutes)


GAINS = (
    Column("Method", lambda row: str(row["method"]), brief=True),
    Column("Seeds", _seeds, brief=True),
    Column("Score", _with_deviation, brief=True),
    Column("Gain", _gain, brief=True),
    Column("95 % interval", lambda row: interval(row["gain"]), brief=True),
    Column("Verdict", lambda row: row["gain"]["verdict"] if row["gain"] else "", brief=True),
    Column("Gain in equal time", _in_time),
    Column("At control's end", _at_end),
    Column("ms a step", lambda row: short(row["step_ms"]), cost=True),
    Column("Step, " + TIMES, lambda row: text(row["step_ratio"], 2), brief=True, cost=True),
    Column("Training min", _training, cost=True),
    Column("Device-hours", lambda row: short(row["device_hours"]), cost=True),
    Column("File MB", lambda row: short(row["file_mb"]), cost=True),
)
FILES = (
    Column("Method", lambda line: str(line["method"])),
    Column("Precision", lambda line: precision_name(line["row"])),
    Column("Runtime", lambda line: runtime_name(line["row"])),
    Column("Runs", lambda line: str(line["runs"])),
    Column("Score", _with_deviation),
    Column("Change", lambda line: signed(line["change"])),
    Column("Latency ms", lambda line: short(line["latency_ms"])),
    Column("File MB", lambda line: short(line["file_mb"])),
)


def columns(table: Json, brief: bool = False) -> list[Column]:
    """The columns in which any method has something to say."""
    return _filled([column for column in GAINS if column.brief or not brief], table["rows"], table["score"])


def file_columns(table: Json) -> list[Column]:
    """The same for the exported files."""
    return _filled(FILES, table["files"], table["score"])


def _filled(wanted: Sequence[Column], rows: Sequence[Json], score: str) -> list[Column]:
    kept = [column for column in wanted if any(column.write(row) not in (UNKNOWN, "") for row in rows)]
    return [replace(c, title=SCORES[score]) if c.title == "Score" else c for c in kept]


def best(table: Json) -> str | None:
    """The method that is marked: the highest mean, if its gain is resolved."""
    leader = table["leader"]
    return leader["method"] if leader and leader["resolved"] else None


def markdown(table: Json) -> str:
    """Heading, table of methods, what to keep in mind, table of exported files; the best method bold if resolved."""
    marked = best(table)
    parts = [f"# {_plain(table['name'])}\n\n", _grid(columns(table), table["rows"], marked), "\n"]
    parts += [f"- {_plain(note)}\n" for note in table["notes"]]
    if table["files"]:
        parts += ["\n## Exported files\n\n", _grid(file_columns(table), table["files"], None)]
    return "".join(parts)


def _grid(shown: Sequence[Column], rows: Sequence[Json], marked: str | None) -> str:
    if not rows:
        return "No runs.\n"
    lines = [[_plain(c.title) for c in shown], [":--" if c.title in _WORDS else "--:" for c in shown]]
    for row in rows:
        cells = [_plain(column.write(row)) for column in shown]
        lines.append([f"**{cell}**" if cell and row["method"] == marked else cell for cell in cells])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_WORDS = ("Method", "Verdict", "Precision", "Runtime")


def _plain(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def csv_text(table: Json) -> str:
    """One line a method with unrounded numbers; unknown ones are empty."""
    lines = [_numbers(row) for row in table["rows"]]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _titles(table), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return stream.getvalue()


def _titles(table: Json) -> list[str]:
    return list(dict.fromkeys(name for row in table["rows"] for name in _numbers(row)))


def _numbers(row: Json) -> Json:
    kept = ("mean", "sd", "steps", "step_ms", "step_ratio", "training_hours", "device_hours", "params_m", "file_mb")
    found = {"method": row["method"], "seeds": len(row["seeds"]), "missing": len(row["missing"])}
    found |= {name: row[name] for name in kept}
    for name in ("gain", "equal_time"):
        found |= _compared(name, row[name])
    return found | {"at_control_end": row["at_control_end"] and row["at_control_end"]["value"]}


def _compared(name: str, found: Json | None) -> Json:
    low, high = (found and (found["whole"] or found["images"])) or (None, None)
    known = found or {"value": None, "verdict": "", "against": ""}
    return {
        name: known["value"], f"{name}_low": low, f"{name}_high": high,
        f"{name}_verdict": known["verdict"], f"{name}_against": known["against"],
    }  # fmt: skip


ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", PLUS_MINUS: r"$\pm$", "\N{MINUS SIGN}": "$-$",
    TIMES: r"$\times$", UNKNOWN: "--", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
})  # fmt: skip


def latex(table: Json) -> str:
    """A table for a paper that uses booktabs: methods, the notes as its caption; the best method bold if resolved."""
    shown, marked = columns(table), best(table)
    form = "".join("l" if column.title in _WORDS else "r" for column in shown)
    head = " & ".join(_tex(column.title) for column in shown)
    body = [" & ".join(_bold(_tex(c.write(row)), row["method"] == marked) for c in shown) for row in table["rows"]]
    caption = _tex(f"{table['name']}. {' '.join(table['notes'])}")
    lines = [
        r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{form}}}", r"\toprule", rf"{head} \\", r"\midrule",
        *(rf"{line} \\" for line in body), r"\bottomrule", r"\end{tabular}", rf"\caption{{{caption}}}", r"\end{table}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _tex(words: str) -> str:
    return words.translate(ESCAPES)


def _bold(words: str, marked: bool) -> str:
    return rf"\textbf{{{words}}}" if marked and words else words


def console(table: Json) -> Table:
    """The main columns for a terminal, what to keep in mind below."""
    marked, shown = best(table), columns(table, brief=True)
    said = [f"Gain in {POINTS[table['score']]}.", *table["notes"]] if any(r["gain"] for r in table["rows"]) else []
    found = Table(
        box=None, header_style="bold", pad_edge=False, caption=escape("\n".join(said or table["notes"])),
        caption_justify="left", caption_style="dim",
    )  # fmt: skip
    for column in shown:
        words = column.title in _WORDS
        found.add_column(column.title, justify="left" if words else "right", no_wrap=column.title != "Verdict")
    for row in table["rows"]:
        style = "bold green" if row["method"] == marked else "dim" if row["mean"] is None else ""
        found.add_row(*(escape(column.write(row)) for column in shown), style=style)
    return found
