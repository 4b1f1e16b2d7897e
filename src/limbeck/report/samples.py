"""The sample images of the page: the photograph, and what the truth and each network paint over it."""

from limbeck.report.folder import Folder
from limbeck.report.markup import Markup, join, raw, tag
from limbeck.report.overlays import Panel, Sample, colours, samples
from limbeck.report.rows import Row, identity, model_name, parse, precision_name, runtime_name
from limbeck.report.sections import section

__all__ = ["TITLES", "networks", "pictures"]

MOST_LEGEND = 60
TITLES = {
    "truth": "Truth",
    "teacher": "Teacher",
    "plain": "Student, plain",
    "student": "Student FP32",
    "int8": "Student INT8",
    "errors-int8": "Errors of INT8",
    "errors-student": "Errors of the student",
    "errors-teacher": "Errors of the teacher",
    "changes-int8": "Changed by INT8",
}
SLIDER = raw('<label class="opacity" hidden>Masks <input type="range" min="0" max="100" value="62"></label>')


def pictures(folder: Folder, ids: dict[str, str]) -> Markup:
    """The section with the sample images, drawn for the rows in ``ids`` (role to id); empty without images."""
    shown = samples(folder, ids)
    if not shown:
        return raw("")
    views = (f".photo-{at}{{background-image:url({sample.photo})}}" for at, sample in enumerate(shown))
    style = tag("style", raw("".join(views)))
    cards = [_card(sample, at) for at, sample in enumerate(shown)]
    hint = f"Each mask with its score on that image. {networks(folder.rows, ids)}"
    legend = tag("div", _legend(folder, shown), SLIDER, class_="bar")
    return section("samples", "What the networks see", hint, style, legend, *cards)


def networks(rows: list[Row], ids: dict[str, str]) -> str:
    """Which rows the masks come from."""
    known = {identity(row): row for row in rows}
    found = [known.get(name, parse(name)) for name in ids.values()]
    return "; ".join(f"{model_name(row)} {precision_name(row)} in {runtime_name(row)}" for row in found) + "."


def _legend(folder: Folder, shown: list[Sample]) -> Markup:
    present = sorted(frozenset().union(*(sample.present for sample in shown)))
    paint = colours(folder)
    changes = any(panel.role.startswith("changes") for sample in shown for panel in sample.panels)
    entries = []
    for index in present[:MOST_LEGEND]:
        name = folder.classes[index] if index < len(folder.classes) else f"class {index}"
        chip = tag("i", style="background:#{:02x}{:02x}{:02x}".format(*paint[index]))
        entries.append(tag("li", chip, name))
    return tag("ul", *entries, tag("li", tag("i", class_="wrong"), "changed" if changes else "wrong"), class_="legend")


def _card(sample: Sample, at: int) -> Markup:
    shape = f"aspect-ratio:{sample.shape[0]}/{sample.shape[1]}"
    image = tag("img", src=sample.photo, alt=f"Photograph {sample.name}", class_="view", style=shape)
    first = tag("figure", image, tag("figcaption", "Image"))
    heading = tag("h3", *([tag("em", sample.why), " "] if sample.why else []), sample.name)
    panels = (_view(panel, sample, at, shape) for panel in sample.panels)
    four = len(sample.panels) + 1 in (4, 7, 8)  # rows without a lonely last picture
    return tag(
        "article", heading, tag("div", first, *panels, class_="panels four" if four else "panels"), class_="sample"
    )


def _view(panel: Panel, sample: Sample, at: int, shape: str) -> Markup:
    title = TITLES.get(panel.role, panel.role)
    kind = "differs" if panel.role.startswith(("errors", "changes")) else "painted"
    mask = tag("img", src=panel.mask, alt=f"{title} on {sample.name}")
    photo = tag("i", class_=f"photo photo-{at}")
    words = join(title, " ", tag("b", panel.score)) if panel.score else title
    return tag("figure", tag("div", photo, mask, class_=f"view {kind}", style=shape), tag("figcaption", words))
