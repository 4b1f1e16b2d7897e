import json
import math

import pytest
import torch

from limbeck.train.fit import Tick
from limbeck.train.log import Averages, append, cut_back


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_lines_are_added(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append(log, {"stage": "student", "step": 1})
    append(log, {"stage": "student", "step": 2, "name": "Straße"})
    assert [line["step"] for line in lines(log)] == [1, 2]


def test_a_stage_is_cut_back_and_the_others_stay(tmp_path):
    log = tmp_path / "metrics.jsonl"
    for stage, step in [("teacher", 1), ("teacher", 9), ("student", 1), ("student", 5), ("student", 6)]:
        append(log, {"stage": stage, "step": step})
    cut_back(log, "student", 5)
    assert [(line["stage"], line["step"]) for line in lines(log)] == [
        ("teacher", 1), ("teacher", 9), ("student", 1), ("student", 5)
    ]  # fmt: skip
    cut_back(log, "student", 0)
    assert {line["stage"] for line in lines(log)} == {"teacher"}


def test_an_unfinished_line_goes(tmp_path):
    log = tmp_path / "metrics.jsonl"
    append(log, {"stage": "student", "step": 1})
    with log.open("a") as stream:
        stream.write('{"stage": "stud')
    cut_back(log, "student", 7)
    append(log, {"stage": "student", "step": 2})
    assert [line["step"] for line in lines(log)] == [1, 2]


def test_there_may_be_no_log(tmp_path):
    cut_back(tmp_path / "metrics.jsonl", "student", 3)
    assert not (tmp_path / "metrics.jsonl").exists()


def tick(step, loss, parts, lr=0.1, images=4, **seconds):
    parts = {name: torch.tensor(value) for name, value in parts.items()}
    return Tick(step, torch.tensor(loss), parts, lr, images, seconds=seconds)


def test_averages():
    averages = Averages()
    averages.add(tick(1, 1.0, {"task": 0.5, "kd": 0.5}, lr=0.1, data=1.0, student=1.0))
    averages.add(tick(2, 3.0, {"task": 2.5, "kd": 0.5}, lr=0.2, data=0.0, student=2.0))
    line = averages.line()
    assert line["loss"] == 2.0
    assert line["parts"] == {"task": 1.5, "kd": 0.5}
    assert line["lr"] == 0.2
    assert line["time"] == {"data": 0.25, "teacher": 0.0, "student": 0.75, "loss": 0.0}
    assert line["images_per_s"] > 0
    json.dumps(line)


def test_each_line_starts_anew():
    averages = Averages()
    averages.add(tick(1, 1.0, {"task": 1.0}))
    averages.line()
    averages.add(tick(2, 5.0, {"task": 5.0}))
    assert averages.line()["loss"] == 5.0
    averages.add(tick(3, math.inf, {"task": math.inf}))
    averages.reset()
    averages.add(tick(4, 2.0, {"task": 2.0}))
    assert averages.line()["loss"] == pytest.approx(2.0)
