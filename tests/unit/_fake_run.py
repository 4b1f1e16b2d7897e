"""A run folder as the stages leave it, made of numbers and drawn streets: what the report is tested with."""

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = [
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
]
PALETTE = [
    [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0], [192, 128, 128],
    [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
]  # fmt: skip
FREQUENCY = [16.9, 23.6, 1.1, 31.8, 6.1, 11.2, 1.2, 1.7, 4.3, 1.4, 0.7]
IOU = [91.4, 80.2, 27.9, 93.1, 78.8, 74.6, 41.7, 38.2, 79.5, 52.3, 49.0]
PAINT = [
    (176, 205, 232), (151, 123, 105), (205, 200, 190), (92, 92, 97), (160, 150, 146), (72, 110, 62), (214, 170, 52),
    (122, 104, 88), (150, 40, 44), (66, 60, 84), (48, 92, 128),
]  # fmt: skip


def row(
    model: str, precision: str, runtime: str, miou: float | None, p50: float | None, mb: float, **more: Any
) -> dict:
    """One row of summary.json; what ``more`` does not say is derived or unknown."""
    student = model.startswith("student")
    times = (
        None if p50 is None else {"mean": p50 * 1.02, "std": p50 * 0.04, "p50": p50, "p95": p50 * 1.1, "p99": p50 * 1.2}
    )
    made = {
        "model": model, "precision": precision, "quantization": "qat" if precision == "int8" else None,
        "format": "onnx", "runtime": runtime, "target": None, "inference_precision": None, "simulated": False,
        "device": "cpu", "threads": 2, "input": [1, 3, 360, 480], "source": "camvid", "split": "validation", "seed": 0,
        "params_m": 3.22 if student else 42.0, "macs_g": 2.71 if student else 138.4,
        "file": f"{model}.{precision}.onnx", "file_mb": mb, "miou": miou, **others(miou), "agreement": 100.0,
        "latency_ms": times, "end_to_end_ms": None if p50 is None else p50 + 4.1,
        "throughput_ips": None if p50 is None else 1000 / p50, "peak_rss_mb": 140 + 4 * mb, "peak_gpu_mb": None,
        "int8_coverage": 0.97 if precision == "int8" else None, "error": None,
    }  # fmt: skip
    assert set(more) <= set(made), set(more) - set(made)
    return made | more


def others(miou: float | None) -> dict:
    """Scores that come with that mIoU."""
    slopes = {"pixel_accuracy": (70, 0.3), "mean_accuracy": (9, 1), "mean_dice": (11, 1), "fw_iou": (65, 0.25)}
    return {key: None if miou is None else start + slope * miou for key, (start, slope) in slopes.items()}


def rows() -> list[dict]:
    """A run in which INT8 in OpenVINO is worth shipping; one row failed."""
    teacher = {"format": "safetensors", "file": "teacher.safetensors", "agreement": 91.32}
    eager = {"format": "safetensors", "file": "student.safetensors"}
    reference = {"format": "safetensors", "file": "student.int8.safetensors"}
    post = {"quantization": "ptq", "file": "student.int8-ptq.onnx"}
    failed = post | {"agreement": None, "error": "no kernel"}
    return [
        row("teacher", "fp32", "eager", 68.31, 402.0, 168.2, **teacher),
        row("teacher", "fp32", "onnxruntime", 68.31, 318.4, 168.0, agreement=91.32),
        row("teacher", "fp32", "openvino", 68.30, 291.7, 168.0, agreement=91.32),
        row("student-baseline", "fp32", "onnxruntime", 60.12, 21.6, 12.9, agreement=93.05),
        row("student", "fp32", "eager", 62.24, 38.5, 12.9, **eager),
        row("student", "fp32", "onnxruntime", 62.24, 21.4, 12.9, agreement=99.999),
        row("student", "fp32", "openvino", 62.23, 17.9, 12.9, agreement=99.997),
        row("student", "fp32", "openvino", 62.19, 10.6, 12.9, agreement=99.71, inference_precision="bf16"),
        row("student", "int8", "eager", 61.92, None, 3.5, agreement=98.41, **reference),
        row("student", "int8", "onnxruntime", 61.90, 14.8, 3.5, agreement=98.40),
        row("student", "int8", "openvino", 61.91, 7.84, 3.5, agreement=98.39),
        row("student", "int8", "openvino", 59.37, 7.86, 3.5, agreement=96.02, **post),
        row("student", "int8", "onnxruntime", None, None, 3.5, **failed),
    ]


def street(seed: int, size: tuple[int, int] = (180, 240)) -> np.ndarray:
    """Labels of a street: sky, houses, trees, cars, people; void at the border of the road."""
    draw_from, (h, w) = random.Random(seed), size
    image = Image.new("L", (w, h), 0)
    draw = ImageDraw.Draw(image)
    horizon, x = int(h * 0.5), 0
    while x < w:
        width, top = draw_from.randint(w // 8, w // 4), draw_from.randint(h // 10, h // 3)
        draw.rectangle([x, top, x + width - draw_from.randint(0, 6), horizon + 20], fill=1)
        x += width
    for _ in range(3):
        x, y, r = draw_from.randint(0, w), draw_from.randint(h // 4, h // 2), draw_from.randint(h // 12, h // 6)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=5)
        draw.rectangle([x - 2, y + r // 2, x + 2, horizon + 24], fill=5)
    draw.rectangle([0, horizon + 8, w, horizon + 20], fill=7)
    draw.rectangle([0, horizon + 18, w, h], fill=4)
    vanish = draw_from.randint(w * 2 // 5, w * 3 // 5)
    draw.polygon([(vanish - 12, horizon + 14), (vanish + 12, horizon + 14), (w + 10, h), (-10, h)], fill=3)
    for _ in range(draw_from.randint(2, 4)):
        depth = draw_from.random()
        cw, y = int(w * (0.07 + 0.15 * depth)), horizon + 18 + int(h * 0.3 * depth)
        x = vanish + int((draw_from.random() - 0.5) * w * (0.25 + depth * 0.6))
        draw.rounded_rectangle([x - cw // 2, y - cw // 2, x + cw // 2, y + cw // 6], radius=cw // 6, fill=8)
    for kind, count in ((9, 3), (10, 1)):
        for _ in range(count):
            x, y, s = draw_from.randint(4, w - 4), horizon + draw_from.randint(24, 40), draw_from.randint(5, 10)
            draw.rectangle([x - s // 3, y - s * 2, x + s // 3, y + s], fill=kind)
            draw.ellipse([x - s // 3, y - s * 3, x + s // 3, y - s * 2], fill=kind)
    for _ in range(3):
        x = draw_from.randint(6, w - 6)
        draw.rectangle([x, h // 5, x + 2, horizon + 30], fill=2)
        if draw_from.random() > 0.4:
            draw.rectangle([x - 7, h // 5, x + 9, h // 5 + 12], fill=6)
    draw.rectangle([0, h - 4, w, h], fill=255)
    return np.asarray(image).copy()


def photograph(labels: np.ndarray, seed: int) -> Image.Image:
    """What a camera might see of those labels: paint, light from above, grain."""
    noise = np.random.default_rng(seed)
    table = np.full((256, 3), 70, np.float32)
    table[: len(PAINT)] = PAINT
    seen = table[labels] * np.linspace(1.12, 0.86, len(labels))[:, None, None]
    grain = noise.normal(0, 9, labels.shape)[..., None] + noise.normal(0, 4, seen.shape)
    return Image.fromarray(np.clip(seen + grain, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.7))


def guess(truth: np.ndarray, seed: int, blur: int) -> np.ndarray:
    """A prediction: rounded shapes, thin things missed here and there."""
    noise = np.random.default_rng(seed)
    rough = Image.fromarray(np.where(truth == 255, 3, truth).astype(np.uint8)).filter(ImageFilter.ModeFilter(blur))
    seen = np.asarray(rough).copy()
    for _ in range(blur // 2):
        y, x = noise.integers(20, truth.shape[0] - 30), noise.integers(10, truth.shape[1] - 40)
        seen[y : y + noise.integers(6, 22), x : x + noise.integers(8, 30)] = noise.integers(1, 11)
    return seen


def write_samples(folder: Path, ids: dict[str, int]) -> list[dict]:
    """Images and masks of four streets, one for each reason; ids map to how coarse their masks are."""
    listed = []
    (folder / "samples").mkdir(parents=True)
    for seed, why in enumerate(("best", "worst", "most changed", "typical")):
        name, truth = f"0016E5_{8000 + 37 * seed:05d}", street(seed + 3)
        files = {"image": f"samples/{name}.jpg", "truth": f"samples/{name}.truth.png"}
        photograph(truth, seed).save(folder / files["image"], quality=90)
        Image.fromarray(truth).save(folder / files["truth"])
        masks = {}
        for offset, (key, blur) in enumerate(ids.items()):
            masks[key] = f"samples/{name}.{key}.png"
            mask = Image.fromarray(guess(truth, 10 * seed + offset // 2, blur + 2 * (why == "worst")))
            mask = mask.convert("P")
            mask.putpalette([value for colour in PALETTE for value in colour])
            mask.save(folder / masks[key])
        listed.append({"name": name, "why": why, **files, "masks": masks})
    return listed


def evaluation(summary: list[dict], samples: list[dict]) -> dict:
    """The record of the evaluate stage for those rows."""
    scored = []
    for index, each in enumerate(r for r in summary if r["miou"] is not None):
        lift, key = each["miou"] - 62, name_of(each)
        iou = [
            round(min(99, value + lift * (1.6 if value < 60 else 0.5) + math.sin(3 * i + index)), 2)
            for i, value in enumerate(IOU)
        ]
        images = [
            {"name": s["name"], "miou": each["miou"] + 6 - 5 * i, "agreement": each["agreement"]}
            for i, s in enumerate(samples)
        ]
        scores = {k: each[k] for k in ("miou", "pixel_accuracy", "mean_accuracy", "mean_dice", "fw_iou", "agreement")}
        classes = {"iou": iou, "accuracy": [min(99, value + 4) for value in iou]}
        scored.append({"id": key, **scores, "per_class": classes, "frequency": FREQUENCY, "images": images})
    return {"result": {"classes": CLASSES, "palette": PALETTE, "rows": scored, "samples": samples}}


def name_of(each: dict) -> str:
    """The id of a row, spelled out here once more so that the report's own spelling is tested."""
    post = "-ptq" if each["quantization"] == "ptq" else ""
    lowered = f"-{each['inference_precision']}" if each["inference_precision"] else ""
    return f"{each['model']}.{each['precision']}{post}.{each['runtime']}{lowered}"


def training() -> list[dict]:
    """Lines of metrics.jsonl: loss falls, the score rises and settles, QAT is short."""
    noise, lines = random.Random(0), []
    plans = {
        "teacher": (120, 68.3, 2.0),
        "student-baseline": (120, 60.1, 2.2),
        "student": (120, 62.2, 4.1),
        "qat": (12, 61.9, 0.9),
    }
    for stage, (epochs, reached, start) in plans.items():
        steps, best = epochs * 45, 0.0
        for step in range(0, steps, max(steps // 160, 1)):
            done = step / steps
            task = (0.22 + 0.9 * math.exp(-5 * done)) * (1 + noise.gauss(0, 0.08)) * start / 2
            parts = (
                {"task": task, "kd": task * 0.55, "cwd": task * 0.3} if stage in ("student", "qat") else {"task": task}
            )
            time = {"data": 0.06, "teacher": 0.31, "student": 0.55, "loss": 0.08}
            time = time if len(parts) > 1 else {"data": 0.08, "teacher": 0.0, "student": 0.88, "loss": 0.04}
            rate = 1e-3 * min(done / 0.05, 1) * (1 - done) ** 0.9 * (0.05 if stage == "qat" else 1)
            line = {"stage": stage, "step": step, "epoch": step // 45, "loss": sum(parts.values()), "parts": parts}
            lines.append(line | {"lr": rate, "time": time, "images_per_s": 41.0})
        for epoch in range(0, epochs, max(epochs // 24, 1)):
            done = (epoch + 1) / epochs
            climb = 0.2 if stage == "qat" else 1.0
            miou = reached - 0.4 - climb * 22 * math.exp(-5 * done) + noise.gauss(0, 0.35) + (0.4 if done > 0.9 else 0)
            line = {"stage": stage, "step": (epoch + 1) * 45, "epoch": epoch, "miou": miou, "best": miou > best}
            lines.append(line | {"pixel_accuracy": 70 + miou * 0.3})
            best = max(best, miou)
    return lines


RECIPE = """\
name: camvid-lightweight
seed: 0
data: {kind: camvid, size: [360, 480], batch: 8, augment: {scale: [0.5, 2.0], flip: true, color: 0.3}}
teacher: {kind: torchvision, arch: deeplabv3_resnet50, train: {epochs: 120}, min_metric: 55}
student: {kind: lightweight_deeplabv3}
baseline: true
train: {epochs: 120, precision: bf16, optimizer: {name: adamw, lr: 1e-3}}
distil:
- {kind: kd, at: logits, temperature: 1, weight: 1}
- {kind: cwd, at: logits, temperature: 4, weight: 3}
quantize: {kind: pt2e, target: openvino, qat: {epochs: 12, freeze_observers: 0.5}, max_drop: 0.5}
export: [{kind: onnx}]
bench: {runtimes: [eager, onnxruntime, openvino], threads: 2}
"""

VERSIONS = {
    "limbeck": "0.1.0", "torch": "2.15.0", "torchao": "0.18.0", "onnxruntime": "1.31.1", "openvino": "2026.4.1",
    "python": "3.12.11",
}  # fmt: skip
ENVIRONMENT = {
    "commit": "5f0c2d9e41",
    "date": "2026-09-14T16:02:11+00:00",
    "device": "cpu",
    "threads": 2,
    "platform": "Linux 6.12 x86_64",
    "cpu": "Intel(R) Xeon(R) Platinum 8481C @ 2.70GHz",
    "versions": VERSIONS,
}

PARITY = [
    {
        "file": f"{name}.onnx",
        "against": engine,
        "argmax_agreement": same,
        "largest_difference": far,
        "images": 32,
    }
    for name, engine, same, far in (
        ("student.fp32", "onnxruntime", 100.0, 2.1e-5),
        ("student.int8", "openvino", 99.97, 0.031),
        ("teacher.fp32", "onnxruntime", 99.999, 4.4e-5),
    )
]

TERMS = [
    {
        "term": "kd", "student": {"at": "logits", "shape": [11, 23, 30], "stride": [15.65, 16.0]},
        "teachers": [{"at": "logits", "shape": [11, 45, 60], "stride": [8.0, 8.0]}],
        "params_beside": 0, "weight": 1.0, "schedule": "",
    },
    {
        "term": "cwd", "student": {"at": "backbone.16", "shape": [960, 23, 30], "stride": [15.65, 16.0]},
        "teachers": [{"at": "backbone.layer4", "shape": [2048, 45, 60], "stride": [8.0, 8.0]}],
        "params_beside": 1966080, "weight": 3.0, "schedule": "rises over 2 %, falls from 70 % to 100 %",
    },
]  # fmt: skip
PULLS = {
    "student": {
        "task": {"norm": 1.5}, "kd": {"norm": 0.9, "ratio": 0.6, "cosine": 0.5, "weight": 1.0},
        "cwd": {"norm": 60.0, "ratio": 40.0, "cosine": -0.02, "weight": 3.0, "suggested": 0.075},
    },
    "qat": {"task": {"norm": 0.4}, "kd": {"norm": 0.5, "ratio": 1.25, "cosine": 0.8, "weight": 1.0}},
}  # fmt: skip

MASKS = {"teacher.fp32.eager": 3, "student.fp32.eager": 5, "student.int8.openvino": 7}


def fake_run(folder: Path, summary: list[dict] | None = None, name: str = "camvid-lightweight") -> Path:
    """Write a whole run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = copy.deepcopy(rows() if summary is None else summary)
    write(folder / "recipe.yaml", RECIPE)
    write(folder / "environment.json", json.dumps(ENVIRONMENT))
    write(folder / "summary.json", json.dumps({"name": name, "environment": ENVIRONMENT, "rows": kept}))
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in training()))
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"stage": s, "step": 270, "gradients": p}) + "\n" for s, p in PULLS.items())
    write(folder / "student" / "record.json", json.dumps({"result": {"terms": TERMS}}))
    samples = write_samples(folder / "evaluate", MASKS)
    write(folder / "evaluate" / "record.json", json.dumps(evaluation(kept, samples)))
    write(folder / "export" / "record.json", json.dumps({"result": {"parity": PARITY}}))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
