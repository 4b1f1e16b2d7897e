import base64
import io
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from _fake_run import MASKS, fake_run, row, rows
from PIL import Image

from limbeck.record import UserError
from limbeck.report import figures, folder, overlays, page, pareto
from limbeck.report.bars import MOST_CLASSES, class_order
from limbeck.report.plots import INK, blank
from limbeck.report.rows import TIMES

FILES = ("recipe.yaml", "environment.json", "summary.json", "metrics.jsonl", "evaluate", "export", "student")
SECTIONS = ("verdict", "rows", "speed", "samples", "classes", "training", "distilled", "time", "parity", "provenance")
EMPTY = frozenset({"img", "meta", "br", "input", "path", "use"})


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("runs") / "camvid-lightweight")


@pytest.fixture(scope="module")
def whole_page(whole_run):
    return page.write(whole_run).read_text(encoding="utf-8")


@pytest.fixture
def quick(monkeypatch):
    """Charts are painted once and small, and not encoded."""

    def draw(name, words, paint, folder, widths):
        paint(widths[-1])
        return ""

    monkeypatch.setattr(figures, "draw", draw)


@pytest.fixture
def run(whole_run, tmp_path):
    return shutil.copytree(whole_run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))


class Reader(HTMLParser):
    """Collects what a browser would load and follows that every element is closed."""

    def __init__(self):
        super().__init__()
        self.loads, self.open, self.ids, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [
            value for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "action", "data")
        ]
        self.loads += [u for key, value in attrs if key == "style" for u in re.findall(r"url\(([^)]*)", value or "")]
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.loads += re.findall(r"url\(([^)]*)", data)
            assert "@import" not in data
        else:
            self.text.append(data)


def read(source):
    reader = Reader()
    reader.feed(source)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_of_a_whole_run_has_every_section(whole_page):
    reader = read(whole_page)
    assert [name for name in SECTIONS if name not in reader.ids] == []
    words = " ".join(" ".join(reader.text).split())
    for said in (
        "camvid-lightweight", "student.int8.onnx", "with OpenVINO", f"2.7{TIMES} faster", f"3.7{TIMES} smaller",
        "failed: no kernel", "parity reference, not timed", "worst", "most changed", "IoU 67.9",
        "Errors of INT8", "sign_symbol", "best 68.3, epoch", "Quantization-aware", "waiting for data", "99.97",
        "lightweight_deeplabv3", "1,966,080 parameters trained beside", "try weight 0.075", "91\N{DEGREE SIGN}",
        f"960{TIMES}23{TIMES}30 stride 15.65{TIMES}16", "rises over 2 %",
        "Intel(R) Xeon(R) Platinum 8481C", "limbeck run recipe.yaml", "2026.4.1",
    ):  # fmt: skip
        assert said in words, said


def test_ids_are_unique(whole_page):
    ids = read(whole_page).ids
    assert len(ids) == len(set(ids))


def test_nothing_is_loaded_from_anywhere(whole_page):
    assert "http://" not in whole_page
    assert "https://" not in whole_page
    assert [load[:60] for load in read(whole_page).loads if not load.startswith(("#", "data:image/"))] == []


def test_the_page_is_small(whole_page):
    assert len(whole_page.encode()) < 1_000_000


def test_charts_follow_the_theme(whole_page):
    assert INK not in whole_page.partition("</style>")[2]
    assert "var(--ink)" in whole_page


def test_each_chart_is_also_a_picture(whole_run, whole_page):
    names = {path.name for path in (whole_run / "report" / "figures").iterdir()}
    stages = {f"training-{stage}.png" for stage in ("teacher", "student-baseline", "student", "qat")}
    assert names == {"pareto.png", "classes.png", "time.png"} | stages
    with Image.open(whole_run / "report" / "figures" / "pareto.png") as image:
        assert image.width == pytest.approx(figures.WIDE * 150 / 72, abs=2)


def test_writing_again_gives_the_same_page(whole_run, whole_page):
    assert page.write(whole_run).read_text(encoding="utf-8") == whole_page


@pytest.mark.parametrize("present", [set(FILES) - {name} for name in FILES] + [{name} for name in FILES] + [set()])
def test_a_page_is_written_whatever_is_missing(run, quick, present):
    for name in set(FILES) - present:
        shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink()
    reader = read(page.write(run).read_text(encoding="utf-8"))
    assert ("rows" in reader.ids) == ("summary.json" in present)
    assert ("training" in reader.ids) == ("metrics.jsonl" in present)
    assert ("samples" in reader.ids) == ("evaluate" in present)
    assert ("parity" in reader.ids) == ("export" in present)
    assert ("distilled" in reader.ids) == bool({"student", "metrics.jsonl"} & present)


def test_a_run_without_masks_shows_agreement_and_changes(run, quick):
    summary = [
        each | dict.fromkeys(("miou", "pixel_accuracy", "mean_accuracy", "mean_dice", "fw_iou")) for each in rows()
    ]
    (run / "summary.json").write_text(json.dumps({"name": "x", "rows": summary}))
    record = json.loads((run / "evaluate" / "record.json").read_text())
    for scored in record["result"]["rows"]:
        scored["per_class"] = None
        scored["images"] = [image | {"miou": None} for image in scored["images"]]
    for sample in record["result"]["samples"]:
        sample["truth"] = None
    (run / "evaluate" / "record.json").write_text(json.dumps(record))
    words = " ".join(read(page.write(run).read_text(encoding="utf-8")).text)
    assert "There was no truth" in words
    assert "Changed by INT8" in words
    assert "agreement 98.4" in words
    assert "Errors of" not in words
    assert "100.0" not in words.partition("Every measured row")[0]


def test_a_run_without_bench_has_no_speed(run, quick):
    summary = [each | {"latency_ms": None, "end_to_end_ms": None, "throughput_ips": None} for each in rows()]
    (run / "summary.json").write_text(json.dumps({"rows": summary}))
    reader = read(page.write(run).read_text(encoding="utf-8"))
    assert "speed" not in reader.ids
    assert "Nothing was timed" in " ".join(reader.text)


def test_names_never_become_markup(run):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&$title"
    (run / "summary.json").write_text(
        json.dumps({"name": evil, "rows": [*rows(), row(evil, "fp32", evil, 1.0, 1.0, 1.0, error=evil, file=evil)]})
    )
    (run / "environment.json").write_text(json.dumps({evil: evil, "versions": {evil: evil}, "commit": evil}))
    (run / "recipe.yaml").write_text(evil)
    record = json.loads((run / "evaluate" / "record.json").read_text())
    record["result"]["classes"][0] = evil
    for sample in record["result"]["samples"]:
        sample |= {"name": evil, "why": evil}
    (run / "evaluate" / "record.json").write_text(json.dumps(record))
    (run / "export" / "record.json").write_text(json.dumps({"result": {"parity": [{"file": evil, "against": evil}]}}))
    line = {
        "stage": evil,
        "step": 1,
        "epoch": 0,
        "loss": 1.0,
        "parts": {evil: 1.0, "b": 0.5},
        "lr": 1e-3,
        "time": {"data": 1.0},
    }
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    source = page.write(run).read_text(encoding="utf-8")
    read(source)
    assert source.count("<script") == 1
    assert "<img src=x" not in source
    assert "alert(1)&lt;/script&gt;" in source


def test_half_a_line_and_half_an_image_are_left_out(run, quick):
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write('{"stage": "qat", "st')
    image = next((run / "evaluate" / "samples").glob("*.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    source = page.write(run).read_text(encoding="utf-8")
    assert "1 lines of metrics.jsonl could not be read" in source
    assert source.count('class="sample"') == 3


def test_samples_stay_inside_the_run(run):
    Image.new("RGB", (8, 8)).save(run.parent / "secret.jpg")
    found = folder.read(run)
    outside = [{"name": "x", "image": "../../secret.jpg", "masks": {}}]
    assert overlays.samples(found, {}) != []
    assert overlays.samples(folder.Folder(**vars(found) | {"samples": outside}), {}) == []


def test_samples_shrink_to_the_budget(run, monkeypatch):
    noise = np.random.default_rng(0)
    for path in (run / "evaluate" / "samples").glob("*.jpg"):
        Image.fromarray(noise.integers(0, 256, (300, 600, 3), dtype=np.uint8)).save(path)
    found, ids = folder.read(run), {"int8": "student.int8.openvino"}
    generous = overlays.samples(found, ids)
    monkeypatch.setattr(overlays, "BUDGET_BYTES", 400_000)
    modest = overlays.samples(found, ids)
    assert modest[0].shape[0] < generous[0].shape[0] == 560
    monkeypatch.setattr(overlays, "BUDGET_BYTES", 60_000)
    assert 0 < len(overlays.samples(found, ids)) < 4


def test_the_error_map_marks_wrong_pixels_and_spares_void(run):
    name, key = "tiny", "student.int8.openvino"
    truth = np.array([[0, 1, 255], [2, 2, 2]], np.uint8)
    seen = np.array([[0, 2, 3], [2, 2, 1]], np.uint8)
    samples = run / "evaluate" / "samples"
    Image.new("RGB", (3, 2)).save(samples / "tiny.jpg")
    Image.fromarray(truth).save(samples / "tiny.truth.png")
    Image.fromarray(seen).save(samples / "tiny.int8.png")
    listed = {
        "name": name,
        "why": "best",
        "image": "samples/tiny.jpg",
        "truth": "samples/tiny.truth.png",
        "masks": {key: "samples/tiny.int8.png"},
    }
    record = {"result": {"classes": ["a", "b", "c"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "samples": [listed]}}
    (run / "evaluate" / "record.json").write_text(json.dumps(record))
    (sample,) = overlays.samples(folder.read(run), {"int8": key})
    panels = {panel.role: panel for panel in sample.panels}
    assert panels["errors-int8"].score == "40.0% of pixels"
    assert sample.present == {0, 1, 2, 3}
    assert pixels(panels["errors-int8"].mask)[..., 3].tolist() == [[0, 255, 0], [0, 0, 255]]
    assert pixels(panels["errors-int8"].mask)[0, 1].tolist() == [*overlays.WRONG, 255]
    assert pixels(panels["truth"].mask).tolist() == [
        [[1, 2, 3, 255], [4, 5, 6, 255], [0, 0, 0, 0]],
        [[7, 8, 9, 255], [7, 8, 9, 255], [7, 8, 9, 255]],
    ]


def pixels(uri):
    stream = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    seen = np.asarray(Image.open(stream).convert("RGBA")).copy()
    seen[seen[..., 3] == 0] = 0
    return seen


def test_masks_of_networks_are_found_by_id(whole_run):
    (first, *_) = overlays.samples(folder.read(whole_run), {"int8": next(iter(MASKS))})
    assert [panel.role for panel in first.panels] == ["truth", "int8", "errors-int8"]


def test_a_missing_folder_is_the_users_error(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        page.write(tmp_path / "nowhere")


def test_many_classes_are_cut_to_those_that_differ():
    scores = {"student": np.full(150, 50.0), "int8": np.full(150, 50.0)}
    scores["int8"][[7, 149]] -= 9
    order = class_order(scores, [])
    assert len(order) == MOST_CLASSES
    assert {7, 149} <= set(order)


def test_long_trainings_stay_small(run):
    lines = [{"stage": "student", "step": i, "epoch": 0, "loss": 1.0 / (i + 1), "lr": 0.1} for i in range(20_000)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = folder.read(run)
    assert len(figures.training(found, "miou")) < 100_000


def test_the_page_needs_neither_torch_nor_the_network():
    code = "import sys, limbeck.report.page, limbeck.report.tables; print({'torch', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_figure_is_as_wide_as_it_says():
    assert blank(360, 144).get_size_inches().tolist() == [5.0, 2.0]


def test_a_network_is_not_compared_with_itself():
    alone = row("student", "fp32", "eager", None, 40.0, 12.9)
    assert [each["runtime"] for each in pareto.points([alone, *rows()[5:7]], "agreement")] == [
        "onnxruntime",
        "openvino",
    ]


def test_the_frontier_holds_what_nothing_beats():
    listed = pareto.points(rows(), "miou")
    found = [(each["precision"], each["latency_ms"]["p50"]) for each in pareto.frontier(listed, "miou")]
    assert found == [("int8", 7.84), ("fp32", 10.6), ("fp32", 17.9), ("fp32", 21.4), ("fp32", 291.7), ("fp32", 318.4)]


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
def test_names_in_the_scatter_do_not_cover_each_other(width):
    listed = pareto.points(rows(), "miou")
    figure = pareto.paint(width, listed, "miou", listed[-2])
    boxes = [note.get_window_extent() for note in figure.axes[0].texts]
    assert len(boxes) >= 3
    assert all(pareto.overlap(a, b) < 2 for at, a in enumerate(boxes) for b in boxes[:at])


def test_another_split_has_a_folder_of_its_own(run, quick):
    (run / "evaluate").rename(run / "evaluate-test")
    summary = [each | {"split": "test"} for each in rows()]
    (run / "summary.json").write_text(json.dumps({"rows": summary}))
    reader = read(page.write(run).read_text(encoding="utf-8"))
    assert {"samples", "classes"} <= set(reader.ids)
    assert "test images" in " ".join(reader.text)
