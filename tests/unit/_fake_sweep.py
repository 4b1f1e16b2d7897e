"""A sweep's folder as its runs leave it, made of numbers: what its table, plots and page are tested with."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from _fake_run import CLASSES, ENVIRONMENT, FREQUENCY, PALETTE, guess, photograph, row, street, write
from PIL import Image

IMAGES = 40
LIFT = {"none": 0.0, "kd": 0.012, "cwd": 0.02, "kd+cwd": 0.03, "pkd": 0.004}
"""Share of pixels that a method gets right beyond the control."""
PACE = {"none": 0.42, "kd": 0.47, "cwd": 0.5, "kd+cwd": 0.52, "pkd": 0.49}
"""Seconds a step."""
STEPS = 120

RECIPE = """\
name: {name}
seed: {seed}
data: {{kind: camvid, size: [180, 240]}}
teacher: {{kind: torchvision, weights: null}}
student: {{kind: lightweight_deeplabv3}}
baseline: {baseline}
train: {{epochs: null, steps: {steps}}}
distil: {{terms: [{terms}], cache: online}}
matrix: {{}}
"""


def counts(method: str, seed: int, lift: float | None = None, classes: int = 11) -> np.ndarray:
    """Pixels found, wrongly said and missed in each image: hard images are hard for every network."""
    rng, own = np.random.default_rng(7), np.random.default_rng([seed, *map(ord, method)])
    truth = rng.integers(50, 400, (IMAGES, classes)) * (rng.random((IMAGES, classes)) < 0.7)
    hard = rng.normal(0.72, 0.08, (IMAGES, 1)) + rng.normal(0, 0.1, (1, classes))
    share = hard + (LIFT[method] if lift is None else lift) + own.normal(0, 0.002) + own.normal(0, 0.01, truth.shape)
    found = np.round(truth * share.clip(0.05, 0.98)).astype(np.int64)
    missed = truth - found
    wrong = np.roll(missed, 1, axis=1)
    return np.stack([found, wrong, missed], -1)


def miou(counted: np.ndarray) -> float:
    """Of the summed counts, spelled out."""
    found, wrong, missed = counted.sum(0).T
    return float(np.mean([100 * f / (f + w + m) for f, w, m in zip(found, wrong, missed, strict=True) if f + w + m]))


def checks(stage: str, method: str, seed: int, score: float, pace: float, steps: int = STEPS) -> list[dict[str, Any]]:
    """Validations that climb to a little less than the score."""
    noise, lines, best = random.Random(f"{method}{seed}"), [], 0.0
    for step in range(10, steps + 1, 10):
        value = score - 1 - 25 * math.exp(-4 * step / steps) + noise.gauss(0, 0.4)
        line = {"stage": stage, "step": step, "epoch": step / 10, "seconds": step * pace, "miou": value}
        lines.append(line | {"best": value > best})
        best = max(best, value)
    return lines


def student(folder: Path, role: str, counted: np.ndarray, method: str, seed: int, pace: float, steps: int) -> dict:
    """Records of one training; its row, and its lines of the log."""
    score = miou(counted)
    file = {"format": "safetensors", "file": f"{role}.safetensors", "id": f"{role}.fp32.eager"}
    made = row(role, "fp32", "eager", score, 38.0, 12.9, seed=seed) | file
    trained = {"steps": steps, "seconds": steps * pace, "best": score, "weights": f"{role}.safetensors"}
    record = {"stage": role, "fingerprint": f"{role}{method}{seed}{steps}", "seconds": steps * pace * 1.2}
    write(folder / role / "record.json", json.dumps(record | {"result": trained, "environment": ENVIRONMENT}))
    with (folder / "metrics.jsonl").open("a") as log:
        log.writelines(json.dumps(line) + "\n" for line in checks(role, method, seed, score, pace, steps))
    return made


def samples(folder: Path, method: str, seed: int) -> list[dict]:
    """Two streets with the masks of the student."""
    listed = []
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for index in (12, 28):
        stem, truth = f"samples/{index:05d}", street(index)
        photograph(truth, index).save(folder / f"{stem}.jpg", quality=90)
        Image.fromarray(truth).save(folder / f"{stem}.truth.png")
        coarse = 11 - 2 * list(LIFT).index(method)
        mask = f"{stem}.student.fp32.eager.png"
        Image.fromarray(guess(truth, 10 * index + seed, coarse)).save(folder / mask)
        files = {"image": f"{stem}.jpg", "truth": f"{stem}.truth.png", "masks": {"student.fp32.eager": mask}}
        listed.append({"name": f"image{index:03d}", "why": "evenly spread", **files})
    return listed


def fake_cell(runs: Path, name: str, method: str, seed: int, *, baseline: bool = False, int8: bool = False,
              steps: int = STEPS, lift: float | None = None) -> None:  # fmt: skip
    """Write the folder of a run that is done."""
    folder = runs / name
    folder.mkdir(parents=True, exist_ok=True)
    terms = "" if method == "none" else ", ".join(f"{{kind: {kind}, weight: 1}}" for kind in method.split("+"))
    text = RECIPE.format(name=name, seed=seed, terms=terms, steps=steps, baseline=str(baseline).lower())
    write(folder / "recipe.yaml", text)
    write(folder / "environment.json", json.dumps(ENVIRONMENT))
    write(folder / "metrics.jsonl", "")
    kept = {"student.fp32.eager": counts(method, seed, lift)}
    rows = [student(folder, "student", kept["student.fp32.eager"], method, seed, PACE[method], steps)]
    if baseline:
        kept["student-baseline.fp32.eager"] = counts("none", seed)
        base = kept["student-baseline.fp32.eager"]
        rows.append(student(folder, "student-baseline", base, "none", seed, PACE["none"], steps))
    if int8:
        rows.append(
            row("student", "int8", "openvino", rows[0]["miou"] - 0.4, 7.9, 3.5) | {"id": "student.int8.openvino"}
        )
    write(folder / "summary.json", json.dumps({"name": name, "environment": ENVIRONMENT, "rows": rows}))
    teacher = {"stage": "teacher", "fingerprint": "t", "seconds": 7200.0, "environment": ENVIRONMENT, "result": {}}
    write(folder / "teacher" / "record.json", json.dumps(teacher))
    names = [{"name": f"image{index:03d}", "miou": 50.0 + seed} for index in range(IMAGES)]
    scored = [{"id": each["id"], "miou": each["miou"], "images": names, "frequency": FREQUENCY} for each in rows]
    spread = samples(folder / "evaluate", method, seed)
    result = {"classes": CLASSES, "palette": PALETTE, "rows": scored, "samples": [], "compared": spread}
    write(folder / "evaluate" / "record.json", json.dumps({"stage": "evaluate", "result": result, "seconds": 36.0}))
    np.savez_compressed(folder / "evaluate" / "counts.npz", **kept)


def fake_sweep(runs: Path, methods: tuple[str, ...] = tuple(LIFT), seeds: tuple[int, ...] = (0, 1, 2), *,
               failed: str = "", **what: Any) -> Path:  # fmt: skip
    """Write a sweep whose runs are done, but the one that ``failed`` names; its folder."""
    cells = []
    for method in methods:
        for seed in seeds:
            name = f"study-{method.replace('+', '-')}-seed-{seed}"
            done = name != failed
            if done:
                fake_cell(runs, name, method, seed, **what)
            cells.append(cell(name, {"distil": method, "seed": seed}, "done" if done else "failed", 0 if done else 1))
    return write_sweep(runs, cells)


def cell(name: str, axes: dict[str, Any], state: str = "done", code: int = 0, overrides: tuple[str, ...] = ()) -> dict:
    """An entry of sweep.json."""
    return {
        "name": name, "overrides": list(overrides), "axes": axes, "state": state, "code": code, "seconds": 60.0,
        "folder": f"../{name}", "log": f"logs/{name}.log",
    }  # fmt: skip


def write_sweep(runs: Path, cells: list[dict]) -> Path:
    """Write sweep.json with these cells; its folder."""
    folder = runs / "study-sweep"
    whole = {"name": "study", "source": str(runs / "gone.yaml"), "overrides": [], "cells": cells}
    write(folder / "sweep.json", json.dumps(whole))
    return folder
