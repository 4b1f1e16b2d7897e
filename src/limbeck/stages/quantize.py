"""Quantize the student: prepare, calibrate, perhaps train on, keep what can be converted."""

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from limbeck import show
from limbeck.artifact.preprocess import Preprocess
from limbeck.build import build
from limbeck.data.pairs import find_files, read_image
from limbeck.data.weight_file import save_tensors
from limbeck.data.weights import encoder_parts, in_parts
from limbeck.graph.fixes import biases_on_grid
from limbeck.graph.modes import set_mode
from limbeck.graph.ranges import freeze_observers, observe, quantized_on
from limbeck.recipe import Qat, Quantize
from limbeck.record import UserError
from limbeck.show import is_first_process
from limbeck.stages.context import Context
from limbeck.stages.matched import say_matched
from limbeck.stages.networks import load_role
from limbeck.stages.objective import make_objective, make_terms
from limbeck.stages.replay import kept_or_asked
from limbeck.stages.rows import labels, weight_files
from limbeck.stages.score import validator
from limbeck.stages.teachers import staff_of, unchanged
from limbeck.stages.train import accelerator_for
from limbeck.stages.training_data import check_data, plan_for, views_of
from limbeck.stages.unlabelled import scored_files
from limbeck.train.objective import Modes
from limbeck.train.session import train

__all__ = ["run"]


def run(context: Context) -> dict[str, Any]:
    """Quantize the student for every entry of ``quantize``.

    Returns:
        For each label its weight file and, for QAT, how the training went.
    """
    return {
        label: _one(context, index, label, spec)
        for index, (label, spec) in enumerate(
            zip(labels(context.recipe.quantize), context.recipe.quantize, strict=True)
        )
    }


def _one(context: Context, index: int, label: str, spec: Quantize) -> dict[str, Any]:
    where = context.recipe.place / "quantize" / index
    quantizer = build("quantizers", spec.spec, where, context.recipe.root)
    student = load_role(context, "student")
    preprocess = context.preprocess(student)
    prepared = quantizer.prepare(
        student, torch.zeros(2, len(preprocess.mean), *preprocess.shape), qat=spec.qat is not None
    )
    calibrate(prepared, _calibration_batches(context, spec, preprocess), spec.calibration.samples)
    files = weight_files(context)
    _write(context, quantizer, prepared, spec, f"{label}-ptq" if spec.qat else label, files, student)
    if spec.qat is None:
        return {"weights": files[label].name}
    result = _train(context, prepared, student, spec.qat, label)
    _write(context, quantizer, prepared, spec, label, files, student)
    return {"weights": files[label].name, "qat": result}


def _write(
    context: Context,
    quantizer: Any,
    prepared: GraphModule,
    spec: Quantize,
    label: str,
    files: dict[str, Path],
    student: Any,
) -> None:
    settled = copy.deepcopy(prepared)
    freeze_observers(settled)
    biases_on_grid(settled)
    tensors, manifest = quantizer.state(settled)
    section = context.section("student")
    architecture = context.architecture(section, student, context.num_classes)
    metadata = context.metadata(
        "student", section, student, precision="int8", target=spec.spec.get("target"), quantizer=spec.spec,
        manifest=manifest, architecture=architecture,
    )  # fmt: skip
    if is_first_process():
        save_tensors(tensors, files[label], metadata.to_json())


@torch.no_grad()
def calibrate(prepared: GraphModule, batches: Iterator[Tensor], total: int) -> None:
    """Let the ranges see the calibration images, in evaluation mode."""
    set_mode(prepared, False)
    observe(prepared)
    done = 0
    with show.bar("calibration", total, unit="images") as bar:
        for images in batches:
            prepared(images)
            done += len(images)
            bar.advance(done)


def _calibration_batches(context: Context, spec: Quantize, preprocess: Preprocess) -> Iterator[Tensor]:
    """Preprocessed images, eight at a time: from training, or from the folder that the recipe names."""
    count = spec.calibration.samples
    if spec.calibration.images:
        files = _calibration_files(context, spec.calibration.images)
        chosen = [files[i] for i in _spread(len(files), count, context.recipe.seed)]
        images: Iterator[Any] = (read_image(file, alpha=context.alpha) for file in chosen)
    else:
        dataset = context.dataset("training")
        images = (dataset[i].image for i in _spread(len(dataset), count, context.recipe.seed))
    batch: list[Any] = []
    for image in images:
        batch.append(preprocess(image))
        if len(batch) == 8:
            yield torch.from_numpy(np.stack(batch))
            batch = []
    if batch:
        yield torch.from_numpy(np.stack(batch))


def _spread(length: int, count: int, seed: int) -> list[int]:
    """``count`` indices in random order, always the same ones."""
    return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()[:count]


def _calibration_files(context: Context, images: str) -> list[Path]:
    files = find_files(Path(), images)
    where = context.recipe.place / "quantize"
    if not files:
        raise UserError(f"{where}: calibration.images: no images in {images!r}.")
    scored = {file.resolve() for file in scored_files(context)}
    shared = [file for file in files if file.resolve() in scored]
    if shared:
        raise UserError(
            f"{where}: calibration.images: {len(shared)} of {len(files)} images are also scored ({shared[0]}); "
            "calibrate on others, or leave it out to use training images."
        )
    return files


def _train(context: Context, prepared: GraphModule, student: Any, qat: Qat, label: str) -> dict[str, Any]:
    """Quantization-aware training: the same loop, with the distillation terms that look at logits."""
    role = "qat" if label == "int8" else f"qat-{label.removeprefix('int8-')}"
    check_data(context, role)
    accelerator = accelerator_for(context, "fp32")
    staff = staff_of(context, role, student, accelerator)
    terms = make_terms(context, staff.lesson, student, staff.everyone)
    if len(terms) < len(context.recipe.distil.terms):
        show.say("qat: terms on features, or on the student's own average alone, are left out; those on logits stay")
    plan = plan_for(context, role, qat)
    matches = say_matched(context, terms, plan.steps)
    quantized_on(prepared)
    _keep_encoder(prepared, student)
    prepared = prepared.to(accelerator.device)
    sources = kept_or_asked(context, role, staff, terms, "fp32")
    objective = make_objective(context, prepared, qat, terms, sources, graph_modes(prepared, qat), student)
    with unchanged(staff):
        views, validate = views_of(context, role), validator(context, prepared, student)
        result = train(plan, objective, views, validate, accelerator)
    accelerator.wait_for_everyone()
    prepared.cpu()
    return asdict(result) | ({"terms": matches} if matches else {})


def _keep_encoder(prepared: GraphModule, student: Any) -> None:
    """Let the graph say what is left of the student's encoder: a rate of the head's own needs it."""
    with contextlib.suppress(UserError):
        parts, names = encoder_parts(student), list(prepared.state_dict())
        prepared.__dict__["encoder_path"] = [part for part in parts if any(in_parts(n, [part]) for n in names)]


def graph_modes(prepared: GraphModule, qat: Qat) -> Modes:
    """Modes of a prepared graph: ranges stand still in evaluation, and for good from ``freeze_observers`` on."""
    now: list[tuple[bool, bool, bool]] = []

    def modes(train: bool, share: float) -> None:
        wanted = (train, share >= qat.freeze_batch_norm, train and share < qat.freeze_observers)
        if now != [wanted]:
            set_mode(prepared, wanted[0], frozen_batch_norm=wanted[1])
            (quantized_on if wanted[2] else freeze_observers)(prepared)
            now[:] = [wanted]

    return modes
