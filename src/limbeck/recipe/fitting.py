"""What teachers and terms of a recipe must agree on, which no section of it sees alone."""

from limbeck.place import Place, nearest
from limbeck.recipe.lesson import LOGITS, Lesson, Seat, everyone, lesson, seats, sides
from limbeck.recipe.losses import Term
from limbeck.recipe.schema import Recipe
from limbeck.record import UserError

__all__ = ["refuse_precision", "refuse_unfit"]


def refuse_unfit(recipe: Recipe) -> None:
    """See that teachers can be told apart, and that terms name those there are.

    Raises:
        UserError: With the place of the first that does not fit.
    """
    found = everyone(recipe)
    known: dict[str, Seat] = {}
    for seat in found:
        if len(found) > 1 and not seat.name:
            raise UserError(f"{seat.where}: one of {len(found)} teachers; each needs a name, such as `name: big`.")
        if seat.name in known:
            raise UserError(f"{seat.where / 'name'}: {seat.name!r} is the name of {known[seat.name].where} too.")
        known[seat.name] = seat
    _refuse_gaps(recipe)
    for learnt in [lesson(recipe, role) for role in ("student", *seats(recipe))]:
        _refuse_two_averages(learnt)
        for index, row in learnt.rows:
            for at in row.places:
                _refuse_unknown(learnt, row, at, learnt.row(index))


def refuse_precision(recipe: Recipe, device: str) -> None:
    """See that the device computes in the precisions of all teachers.

    Raises:
        UserError: If not; with the place of the first.
    """
    for seat in everyone(recipe):
        if seat.section.precision == "fp16" and device == "cpu":
            raise UserError(f"{seat.where / 'precision'}: fp16 needs a GPU; bf16 and fp32 work on a CPU.")


def _refuse_gaps(recipe: Recipe) -> None:
    """A window of the recipe's stride must not leave out what a teacher of another input size would have to see."""
    for seat in seats(recipe).values():
        size, slide = seat.section.input_size, recipe.evaluate.slide
        stride = slide.strides(recipe.data.size) if slide else (0, 0)
        if size and (stride[0] > size[0] or stride[1] > size[1]):
            raise UserError(
                f"{seat.where / 'input_size'}: evaluate.slide moves by {list(stride)}, which leaves gaps between "
                f"windows of {list(size)}."
            )


def _refuse_two_averages(found: Lesson) -> None:
    own = [seat for seat in found.seats if seat.section.is_own]
    if len(own) > 1:
        raise UserError(f"{own[1].where}: a second average of the same network; one teacher of kind: ema is enough.")


def _refuse_unknown(found: Lesson, row: Term, at: str, where: Place) -> None:
    _, name, path = sides(at)
    names = [seat.name for seat in found.seats if seat.name]
    if name is not None and name not in names:
        there = f"There are {', '.join(names)}" if names else "Its only teacher has no name"
        raise UserError(f"{where / 'at'}: no teacher {name!r} here.{nearest(name, names)} {there}.")
    if row.combine != "mean" and (path != LOGITS or len(found.places(at)) < 2):
        raise UserError(f"{where / 'combine'}: {row.combine} weighs the logits of several teachers by who is right.")
