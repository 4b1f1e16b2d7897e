"""One offline page that shows a run: which file to ship and why, and every number and picture behind it."""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from string import Template

from limbeck.record import UserError, write_text
from limbeck.report import folder as folders
from limbeck.report.folder import Folder
from limbeck.report.headline import header, numbers, verdict_card
from limbeck.report.markup import Markup, join, tag
from limbeck.report.named import named_pictures
from limbeck.report.rows import best_teacher, identity, leading
from limbeck.report.samples import pictures
from limbeck.report.sections import all_rows, parity, provenance
from limbeck.report.sources import by_source
from limbeck.report.verdict import Verdict, verdict

__all__ = ["document", "write"]

TITLES = {
    "rows": "Rows",
    "sources": "Sources",
    "speed": "Speed",
    "samples": "Pictures",
    "classes": "Classes",
    "training": "Training",
    "distilled": "Distillation",
    "time": "Time",
    "parity": "Parity",
    "provenance": "Provenance",
}


def write(run: Path) -> Path:
    """Write ``<run>/report/index.html`` and ``<run>/report/figures/*.png``; what the run did not do is left out.

    Returns:
        Path of the page: one file, without scripts it needs and without anything to load.

    Raises:
        limbeck.record.UserError: If the folder is missing, one of its records is not JSON, or matplotlib is missing.
    """
    if not run.is_dir():
        raise UserError(f"{run}: no such run folder; `limbeck run RECIPE` makes one.")
    folder = folders.read(run)
    judged = verdict(folder.rows)
    page = run / "report" / "index.html"
    write_text(page, document(f"{folder.name}: Limbeck report", _body(folder, judged)))
    return page


def _body(folder: Folder, judged: Verdict) -> Markup:
    sections = _sections(folder, judged)
    links = [tag("a", TITLES[name], href=f"#{name}") for name, section in sections.items() if section]
    top = [header(folder), verdict_card(judged), numbers(judged)]
    foot = tag("footer", "Made by Limbeck from the files of the run; every number comes from them.")
    return tag("main", *top, tag("nav", *links, aria_label="Sections"), *sections.values(), foot)


def _sections(folder: Folder, judged: Verdict) -> dict[str, Markup]:
    """The sections in reading order; those without content are empty."""
    try:
        from limbeck.report import figures
        from limbeck.report.distilled import distilled
    except ModuleNotFoundError as error:
        raise UserError(f'report: needs {error.name}, which is not installed: pip install "limbeck[report]"') from error
    shipped = identity(judged.pick) if judged.pick else None
    masked = {name for sample in folder.samples for name in sample.get("masks" if folder.dense else "labels") or {}}
    teacher = best_teacher(folder.rows)
    scored = leading(folder.evaluated, shipped, teacher)
    return {
        "rows": all_rows(folder, judged.pick),
        "sources": by_source(folder, judged.score, judged.pick),
        "speed": figures.speed(folder, judged),
        "samples": (pictures if folder.dense else named_pictures)(folder, leading(masked, shipped, teacher)),
        "classes": figures.classes(folder, scored),
        "training": figures.training(folder, judged.score),
        "distilled": distilled(folder),
        "time": figures.time(folder),
        "parity": parity(folder),
        "provenance": provenance(folder),
    }


def document(title: str, body: Markup) -> str:
    """A whole document; its policy lets no script run but ours and nothing be fetched."""
    script = _packaged("page.js")
    mark = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return Template(_packaged("page.html")).substitute(
        title=join(title),
        style=_packaged("style.css"),
        script=script,
        script_hash=f"'sha256-{mark}'",
        body=body,
    )


def _packaged(name: str) -> str:
    return resources.files("limbeck.report").joinpath(name).read_text(encoding="utf-8")
