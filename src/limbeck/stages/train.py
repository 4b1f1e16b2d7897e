"""Train one network of a run: teacher, student, baseline, or the student trained on."""

import os
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from limbeck.artifact.metadata import Metadata
from limbeck.build import build
from limbeck.data.weight_file import save_weights, state_digest
from limbeck.data.weights import load_weights
from limbeck.graph.network import as_logits, without_aux
from limbeck.recipe import Train
from limbeck.record import UserError
from limbeck.runtimes._cores import physical_cores
from limbeck.show import is_first_process
from limbeck.stages.context import Context
from limbeck.stages.dry_run import refuse_other_answers
from limbeck.stages.matched import say_matched
from limbeck.stages.objective import logits_terms, make_objective, make_terms, refuse_unknown_path
from limbeck.stages.replay import kept_or_asked
from limbeck.stages.score import good_enough, validator
from limbeck.stages.training_data import check_data, plan_for, views_of
from limbeck.train.session import train
from limbeck.train.teacher import Teacher
from limbeck.train.terms import split_path

__all__ = [
    "accelerator_for",
    "load_role",
    "run",
    "teacher_of",
]


def run(context: Context, role: str) -> dict[str, Any]:
    """Train the network of a role, or take its weights as they are, and write ``<role>/<role>.safetensors``.

    Returns:
        Its weight file, score, steps and seconds.
    """
    settings = settings_of(context, role)
    torch.manual_seed(context.recipe.seed)
    section, where = context.section(role), context.recipe.place / ("teacher" if role == "teacher" else "student")
    model = context.network(section, where, context.num_classes)
    if role == "student-longer":
        model = load_role(context, "student")  # without auxiliary heads, as QAT starts from it
    else:
        context.weigh(model, section, where)
        refuse_other_answers(context, model, where, context.num_classes)
    found: dict[str, Any] = {}
    if settings is not None:
        found = _train(context, role, model, settings)
    architecture = context.architecture(section, model, context.num_classes)
    bare = without_aux(model)
    metadata = context.metadata(role, section, model, architecture=architecture)
    if is_first_process():
        save_weights(bare, context.weights(role), metadata.to_json())
    return {"weights": context.weights(role).name, **found}


def settings_of(context: Context, role: str) -> Train | None:
    """The training settings of a role; None where its weights are used as they are."""
    recipe = context.recipe
    if role == "teacher":
        return context.section(role).train
    if role == "student-longer":
        return next(spec.qat for spec in recipe.quantize if spec.qat and spec.qat.control)
    return recipe.train


def _train(context: Context, role: str, model: nn.Module, settings: Train) -> dict[str, Any]:
    check_data(context, role)
    accelerator = accelerator_for(context, settings.precision)
    distilled = role in ("student", "student-longer") and bool(context.recipe.distil.terms)
    teacher = teacher_of(context, accelerator) if distilled else None
    sections = logits_terms(context) if role == "student-longer" else context.recipe.distil.terms
    terms = make_terms(context, model, teacher.model, sections) if teacher else []
    source = kept_or_asked(context, role, teacher, terms, settings.precision) if teacher else None
    objective = make_objective(context, model, settings, terms, source)
    matches = say_matched(context, terms)
    before = state_digest(teacher.model) if teacher else None
    plan = plan_for(context, role, settings)
    result = train(plan, objective, views_of(context, role), validator(context, model), accelerator)
    if teacher and state_digest(teacher.model) != before:
        raise AssertionError("the teacher changed while the student was trained")
    accelerator.wait_for_everyone()
    return asdict(result) | ({"terms": matches} if matches else {})


def accelerator_for(context: Context, precision: str) -> Accelerator:
    """Device, precision and processes of one training; a run may train in several precisions one after another.

    Raises:
        UserError: For fp16 without a GPU.
    """
    cpu = context.device == "cpu"
    if cpu and precision == "fp16":
        raise UserError("train.precision: fp16 needs a GPU; bf16 and fp32 work on a CPU.")
    if not cpu:
        os.environ["ACCELERATE_TORCH_DEVICE"] = context.device
    AcceleratorState._reset_state()
    if cpu:
        torch.set_num_threads(max(1, physical_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return Accelerator(cpu=cpu, mixed_precision={"fp32": "no"}.get(precision, precision))


def teacher_of(context: Context, accelerator: Accelerator | None = None) -> Teacher:
    """The trained teacher, tapped where the recipe's terms look.

    Raises:
        UserError: If it does not reach the score that the recipe asks of it.
    """
    model = load_role(context, "teacher")
    if is_first_process():
        good_enough(context, "teacher", model)
    if accelerator is not None:
        model = model.to(accelerator.device, memory_format=torch.channels_last)
    for index in range(len(context.recipe.distil.terms)):
        refuse_unknown_path(context, index, model, "teacher")
    paths = [split_path(at)[1] for term in context.recipe.distil.terms for at in term.places]
    return Teacher(model, model.mean, model.std, paths)


def load_role(context: Context, role: str) -> Any:
    """A network with its final weights, in eval mode, built as its weight file says."""
    path = context.weights(role)
    metadata = Metadata.read(path)
    if metadata is None or metadata.architecture is None:
        raise UserError(f"{path}: does not say how its network is built; run `--force {role}`.")
    spec = {key: value for key, value in metadata.architecture.items() if key != "num_classes"}
    root = context.source_root(context.section(role))
    runtime = {"num_classes": metadata.architecture["num_classes"], "pretrained": None, "root": root}
    model = as_logits(build("models", spec, f"{path}: architecture", root, **runtime))
    load_weights(model, path)
    model.__dict__["mean"], model.__dict__["std"] = metadata.preprocess.mean, metadata.preprocess.std
    return model.eval()
