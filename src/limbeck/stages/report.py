"""Gather what the stages recorded into summary.json and summary.md, and write the page."""

from pathlib import Path
from typing import Any

from limbeck.record import read_json, write_json, write_text
from limbeck.report.page import write
from limbeck.report.tables import markdown
from limbeck.stages.context import Context
from limbeck.stages.plan import folder_of
from limbeck.stages.rows import rows

__all__ = ["run", "summary"]

COLUMNS = (
    "model", "precision", "quantization", "format", "runtime", "target", "inference_precision", "simulated", "device",
    "threads", "input", "source", "split", "protocol", "seed", "params_m", "macs_g", "file", "file_mb", "miou",
    "accuracy", "top5_accuracy", "pixel_accuracy", "mean_accuracy", "mean_dice", "fw_iou", "boundary_iou", "agreement",
    "latency_ms", "end_to_end_ms", "throughput_ips", "peak_rss_mb", "peak_gpu_mb", "int8_coverage", "sources", "error",
)  # fmt: skip


def run(context: Context) -> Path:
    """Write summary.json, summary.md and the report of a run; returns the page's path."""
    found = summary(context)
    write_json(context.folder / "summary.json", found)
    write_text(context.folder / "summary.md", markdown(found["rows"]) + "\n")
    return write(context.folder)


def summary(context: Context) -> dict[str, Any]:
    """One row for each model on each runtime; what was not measured is null."""
    split = context.recipe.evaluate.split
    evaluation = context.folder / folder_of(context, "evaluate") / "record.json"
    scored, protocol = _rows(evaluation), _protocol(evaluation)
    timed = _rows(context.folder / "bench" / "record.json")
    found = []
    for row in rows(context):
        known = row.described() | _known(timed, row.id) | _known(scored, row.id)
        errors = [part["error"] for part in (_known(scored, row.id), _known(timed, row.id)) if part.get("error")]
        known |= {"seed": context.recipe.seed, "source": context.recipe.data.kind, "split": split, "protocol": protocol}
        known["error"] = "; ".join(dict.fromkeys(errors)) or None
        found.append({"id": row.id} | {name: known.get(name) for name in COLUMNS})
    return {"name": context.recipe.name, "environment": _environment(context), "rows": found}


def _environment(context: Context) -> dict[str, Any]:
    """Where the numbers were measured: that of the benchmark, else of the last stage that did something."""
    bench = context.folder / "bench" / "record.json"
    found: dict[str, Any] = (
        read_json(bench)["environment"] if bench.is_file() else read_json(context.folder / "environment.json")
    )
    return found


def _known(records: dict[str, dict[str, Any]], row: str) -> dict[str, Any]:
    return {name: value for name, value in records.get(row, {}).items() if value is not None}


def _protocol(record: Path) -> str | None:
    """How images were shown to the networks, in words."""
    return read_json(record)["result"].get("protocol") if record.is_file() else None


def _rows(record: Path) -> dict[str, dict[str, Any]]:
    if not record.is_file():
        return {}
    found = read_json(record)["result"]["rows"]
    return found if isinstance(found, dict) else {row["id"]: row for row in found}
