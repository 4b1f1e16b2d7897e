"""What a sweep's folder gets: the table in four formats, pictures, the sheet and the page."""

import csv
import io
import itertools
import json
import re

import numpy as np
import pytest
from _fake_sweep import cell as entry
from _fake_sweep import fake_sweep, write_sweep
from PIL import Image

from limbeck import cli
from limbeck.record import UserError
from limbeck.sweep import results
from limbeck.sweep.formats import console, csv_text, latex, markdown
from limbeck.sweep.page import write
from limbeck.sweep.table import tabulate


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = fake_sweep(
        tmp_path_factory.mktemp("runs"), ("none", "kd", "kd+cwd"), seeds=(0, 1), failed="study-kd-seed-1", int8=True
    )
    write(folder)
    return folder


def test_everything_is_written_whole(written):
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    pictures = {f"report/figures/{n}.{s}" for n in ("gains", "scores", "time", "curves") for s in ("png", "svg")}
    tables = {f"table.{form}" for form in ("json", "md", "csv", "tex")}
    assert names == {"sweep.json", "report/index.html", "report/figures/sheet.png"} | pictures | tables


def test_pictures_are_for_print(written):
    with Image.open(written / "report" / "figures" / "gains.png") as image:
        assert image.info["dpi"] == pytest.approx((220, 220), abs=0.1)
        assert np.asarray(image.convert("L")).std() > 5
    assert "<text" not in (written / "report" / "figures" / "gains.svg").read_text()  # letters are paths: no fonts


def test_the_sheet_has_a_column_for_every_method(written):
    with Image.open(written / "report" / "figures" / "sheet.png") as image:
        assert image.width == 5 * 306 + 6
        shown = np.asarray(image)
    columns = [shown[60:200, 6 + at * 306 : 306 + at * 306] for at in range(5)]
    assert all(not np.array_equal(one, two) for one, two in itertools.pairwise(columns))


def test_the_page_stands_alone(written):
    page = (written / "report" / "index.html").read_text()
    assert re.findall(r'<section[^>]* id="([a-z]+)"', page) == [
        "verdict", "table", "gains", "scores", "time", "curves", "sheet", "files",
    ]  # fmt: skip
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "kd+cwd gains" in page
    assert "Not in the table (failed, exit code 1): study-kd-seed-1." in page


def test_the_markdown_table_says_what_is_resolved(written):
    text = (written / "table.md").read_text()
    first = text.partition("## Exported files")[0]
    rows = {line.split("|")[1].strip(" *"): line for line in first.splitlines() if line.startswith("| ")}
    assert rows["kd"].split("|")[2].strip() == "1 of 2"
    assert "not resolved beyond this seed" in rows["kd"]
    assert rows["kd+cwd"].split("|")[1] == " **kd+cwd** "
    assert "\n## Exported files\n" in text


def test_the_csv_has_the_numbers_unrounded(written):
    table = json.loads((written / "table.json").read_text())
    rows = list(csv.DictReader(io.StringIO((written / "table.csv").read_text())))
    assert [row["method"] for row in rows] == ["none", "kd", "kd+cwd"]
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in table["rows"]]
    assert float(rows[2]["gain_low"]) == table["rows"][2]["gain"]["whole"][0]
    assert (rows[0]["gain"], rows[1]["missing"]) == ("", "1")


def test_latex_is_escaped(tmp_path):
    """Names come from the user: no character of theirs may mean anything to TeX."""
    folder = fake_sweep(tmp_path, ("none", "kd"), seeds=(0,))
    table = tabulate(results.read(folder), draws=100)
    table["rows"][1]["method"] = r"50% & {a_b}\x~^#$"
    text = latex(table)
    assert r"50\% \& \{a\_b\}\textbackslash{}x\textasciitilde{}\textasciicircum{}\#\$ &" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    counts = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith(r"\\")}
    head = next(line for line in text.splitlines() if line.startswith("Method"))
    assert counts == {head.count("&")}
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert r"\toprule" in text


def test_markdown_is_escaped(tmp_path):
    table = tabulate(results.read(fake_sweep(tmp_path, ("none", "kd"), seeds=(0,))), draws=100)
    table["rows"][1]["method"] = "a|b<i>_*"
    line = next(line for line in markdown(table).splitlines() if line.startswith("| a"))
    assert line.startswith(r"| a\|b&lt;i>\_\* | ")


def test_a_sweep_of_which_nothing_is_done_has_a_page(tmp_path):
    folder = write_sweep(tmp_path, [entry("study-kd-seed-0", {"distil": "kd", "seed": 0}, "waiting")])
    table = write(folder)
    assert csv_text(table).splitlines()[1].startswith("kd,0,1,")
    assert console(table).row_count == 1
    assert "Not in the table (waiting): study-kd-seed-0." in (folder / "report" / "index.html").read_text()


def test_the_report_of_a_sweep_is_made_again(written, capsys, monkeypatch):
    (written / "table.md").unlink()
    monkeypatch.setattr("sys.argv", ["limbeck", "report", str(written), "--block", "4"])
    cli.main()
    assert "blocks of 4 consecutive images" in (written / "table.md").read_text()
    assert "kd+cwd" in capsys.readouterr().out


def test_a_sweep_takes_no_changes(written, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["limbeck", "report", str(written), "seed=1"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "is a sweep, which takes no changes; found 'seed=1'" in capsys.readouterr().err


def test_a_classifiers_answers_stand_below_the_image(tmp_path):
    folder = fake_sweep(tmp_path, ("none", "kd"), seeds=(0,))
    for label, method in enumerate(("none", "kd"), 3):
        path = tmp_path / f"study-{method}-seed-0" / "evaluate" / "record.json"
        record = json.loads(path.read_text())
        record["result"]["dense"] = False
        for sample in record["result"]["compared"]:
            sample.update(label=3, labels={"student.fp32.eager": label}, masks={})
        path.write_text(json.dumps(record))
    write(folder)
    page = (folder / "report" / "index.html").read_text()
    assert page.count('<article class="sample">') == 2
    assert "<li>none <b>road</b></li>" in page
    assert '<li>kd <b class="mistaken">pavement</b> (wrong)</li>' in page
    assert not (folder / "report" / "figures" / "sheet.png").exists()


def test_a_recipe_stands_for_its_sweep(tmp_path, monkeypatch):
    """By its matrix or by several values on the command line; without either it is a single run."""
    monkeypatch.setenv("LIMBECK_RUNS", str(tmp_path))
    text = "name: study\ndata: {kind: scenes, size: [32, 32]}\nstudent: {kind: compact_unet}\ntrain: {steps: 1}\n"
    plain, table = tmp_path / "plain.yaml", tmp_path / "table.yaml"
    plain.write_text(text)
    table.write_text(text + "matrix: {seed: [0, 1]}\n")
    with pytest.raises(UserError, match=r"study-sweep: no such sweep; `limbeck sweep .*seed=0,1` makes one"):
        results.find(str(plain), ["seed=0,1"])
    folder = write_sweep(tmp_path, [])
    assert results.find(str(plain), []) is None
    assert results.find(str(plain), ["seed=0,1"]) == results.find(str(table), []) == folder
    assert results.find("study-sweep", []) == results.find(str(folder), []) == folder


def test_a_folder_without_a_sweep_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"sweep\.json: no such file"):
        write(tmp_path)
    for text in ("{}", "[]", '{"cells": {}}'):
        (tmp_path / "sweep.json").write_text(text)
        with pytest.raises(UserError, match=r"sweep\.json: not the state of a sweep"):
            write(tmp_path)
