"""What a network in PyTorch scores on the split that selects: while it is trained, and before it teaches."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from limbeck import show
from limbeck.artifact.load import Predictor
from limbeck.data.stats import cache_folder
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
    """The score, kept in the cache folder, where other runs with the same teacher and data find it too."""
    recipe, weights = context.recipe, context.weights(role)
    of = {
        "made": _record(context, role).get("fingerprint"), "weights": file_digest(weights),
        "data": context.dataset("validation").digest(), "size": context.size(role),
        "resize": recipe.data.resize.model_dump(), "task": recipe.task.spec,
    }  # fmt: skip
    path = cache_folder() / "scores" / f"{digest(of)}.json"
    if not path.is_file():
        validate = validator(context, model.eval(), role=role)
        found = validate()[context.task.metric] if validate else None
        write_json(path, {"score": None if found is None else float(found)} | of)
    score: float | None = read_json(path)["score"]
    return score


def _while_trained(context: Context, role: str) -> float | None:
    score: float | None = _record(context, role).get("result", {}).get("best")
    return score


def _record(context: Context, role: str) -> dict[str, Any]:
    """What the stage of a network left behind; nothing where it is not recorded."""
    path = context.folder / role / "record.json"
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    return found
