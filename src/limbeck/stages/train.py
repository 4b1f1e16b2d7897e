"""Train one network of a run: teacher, student, baseline, or the student trained on."""

import os
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from limbeck.data.weight_file import save_weights
from limbeck.graph.network import in_classes, without_aux
from limbeck.recipe import Train
from limbeck.recipe.lesson import is_teacher
from limbeck.record import UserError
from limbeck.runtimes._cores import physical_cores
from limbeck.show import is_first_process
from limbeck.stages.context import Context
from limbeck.stages.dry_run import refuse_other_answers
from limbeck.stages.matched import say_matched
from limbeck.stages.networks import load_role
from limbeck.stages.objective import make_objective, make_terms
from limbeck.stages.replay import kept_or_asked
from limbeck.stages.score import validator
from limbeck.stages.teacher_classes import outputs_of
from limbeck.stages.teachers import staff_of, unchanged
from limbeck.stages.training_data import check_data, plan_for, views_of
from limbeck.train.session import train

__all__ = ["accelerator_for", "run"]


def run(context: Context, role: str) -> dict[str, Any]:
    """Train the network of a role, or take its weights as they are, and write ``<role>/<role>.safetensors``.

    Returns:
        Its weight file, score, steps and seconds.
    """
    settings = settings_of(context, role)
    torch.manual_seed(context.seed(role))
    section, where, classes = (
        context.section(role),
        context.where(role),
        context.dataset(context.recipe.evaluate.split).classes,
    )
    outputs = outputs_of(context, section, where, classes)
    model = context.network(section, where, outputs.count)
    if role == "student-longer":
        model = load_role(context, "student")  # without auxiliary heads, as QAT starts from it
    else:
        context.weigh(in_classes(model, outputs.groups), section, where)
        refuse_other_answers(context, model, where, len(classes), context.size(role))
    found: dict[str, Any] = {}
    if settings is not None:
        found = _train(context, role, model, settings)
    architecture = context.architecture(section, model, outputs.count, outputs.groups)
    bare = without_aux(model)
    metadata = context.metadata(role, section, model, architecture=architecture)
    if is_first_process():
        save_weights(bare, context.weights(role), metadata.to_json())
    return {"weights": context.weights(role).name, **found}


def settings_of(context: Context, role: str) -> Train | None:
    """The training settings of a role; None where its weights are used as they are."""
    recipe = context.recipe
    if is_teacher(role):
        return context.section(role).train
    if role == "student-longer":
        return next(spec.qat for spec in recipe.quantize if spec.qat and spec.qat.control)
    return recipe.train


def _train(context: Context, role: str, model: nn.Module, settings: Train) -> dict[str, Any]:
    check_data(context, role)
    accelerator = accelerator_for(context, settings.precision)
    staff = staff_of(context, role, model, accelerator)
    terms = make_terms(context, staff.lesson, model, staff.everyone)
    sources = kept_or_asked(context, role, staff, terms, settings.precision)
    objective = make_objective(context, model, settings, terms, sources, own=staff.own)
    plan = plan_for(context, role, settings)
    matches = say_matched(context, terms, plan.steps)
    with unchanged(staff):
        result = train(plan, objective, views_of(context, role), validator(context, model, role=role), accelerator)
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
