"""What a network in PyTorch scores on the split that selects: while it is trained, and before it teaches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from limbeck import show
from limbeck.artifact.load import Predictor
from limbeck.metrics.evaluate import evaluate
from limbeck.record import UserError, digest, file_digest, read_json, write_json
from limbeck.stages.context import Context

__all__ = ["good_enough", "validator"]


def in_memory(context: Context, model: Any, normalisation: Any = None, role: str = "student") -> Predictor:
    """A predictor of the network as it stands, on its own device and in its own mode."""
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else torch.device("cpu")

    @torch.no_grad()
    def logits(pixel_values: Any) -> Any:
        image = torch.from_numpy(pixel_values).to(device).contiguous(memory_format=torch.channels_last)
        found: Tensor = model(image)
        return found.float().contiguous().cpu().numpy()

    return Predictor(logits, context.preprocess(normalisation or model, role), dense=context.task.dense)


def validator(
    context: Context, model: Any, normalisation: Any = None, role: str = "student"
) -> Callable[[], dict[str, Any]] | None:
    """Scores of the network as it stands, over the split that selects; None if it has no truth."""
    dataset = context.dataset("validation")
    if dataset[0].target is None:
        return None

    def validate() -> dict[str, Any]:
        network = in_memory(context, model, normalisation, role)
        quality = evaluate(network, dataset, batch=context.recipe.evaluate.batch)
        scores: dict[str, Any] = quality.scores or {}
        metric = context.task.metric
        apart = {f"{metric}/{name}": own.get(metric) for name, own in quality.sources.items()}
        return {name: scores.get(name) for name in context.task.scores} | apart

    return validate


def good_enough(context: Context, role: str, model: Any) -> None:
    """Say what a teacher scores, and see that it reaches what the recipe asks of it.

    One that brought its weights, or is asked for a score, is evaluated, once for the same weights and data; of any
    other its training knows the score.

    Raises:
        UserError: If it does not reach its ``min_metric``, or has no score for lack of labels.
    """
    section = context.section(role)
    metric, wanted = context.task.metric, section.min_metric
    asked = wanted is not None or section.weights is not None
    found = _evaluated_once(context, role, model) if asked else _while_trained(context, role)
    shown = "no score, for lack of labels" if found is None else f"{found:.2f} points of {metric}"
    if wanted is not None and (found is None or found < wanted):
        place = context.where(role) / "min_metric"
        raise UserError(f"{place}: the teacher reaches {shown}, asked for {wanted:g}.")
    show.say(f"{role}: {shown} on validation" + (f", asked for {wanted:g}" if wanted is not None else ""))


def _evaluated_once(context: Context, role: str, model: Any) -> float | None:
    """The score, from the file beside the weights if it is theirs."""
    path, data = context.weights(role).with_name("score.json"), context.recipe.data
    of = [
        file_digest(context.weights(role)),
        context.dataset("validation").digest(),
        context.size(role),
        data.resize.model_dump(),
    ]
    known = read_json(path) if path.is_file() else {}
    if known.get("of") != digest(of):
        validate = validator(context, model.eval(), role=role)
        found = validate()[context.task.metric] if validate else None
        known = {"of": digest(of), "score": None if found is None else float(found)}
        write_json(path, known)
    score: float | None = known["score"]
    return score


def _while_trained(context: Context, role: str) -> float | None:
    record = context.folder / role / "record.json"
    score: float | None = read_json(record)["result"].get("best") if record.is_file() else None
    return score
