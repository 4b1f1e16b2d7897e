"""Controls that train for as long as a method does: what the method's time would have bought without it."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.record import read_json
from limbeck.sweep.grid import Cell
from limbeck.sweep.methods import EQUAL_TIME, SAME_TIME, Method, control_of, longer_control_of, methods
from limbeck.sweep.methods import steps_for_equal_time as steps_in
from limbeck.sweep.results import BASELINE, Run, Sweep, is_sweep

__all__ = ["known_controls", "longer_controls"]


def longer_controls(sweep: Sweep) -> list[Cell]:
    """Runs without distillation, of as many steps as fit in the time that methods took, for those that have none yet.

    Methods whose times differ by less than 5 % share the control of the longest of them. The schedule of a control is
    stretched to its steps, so that it ends as the method's does. One run for each seed of the method's own control.
    """
    found = methods(sweep)
    wanted: dict[str, tuple[Method, list[int]]] = {}
    for method in found:
        control = control_of(method, found)
        steps = steps_in(method, control) if control else None
        if control and steps and longer_control_of(method, control, found) is None:
            wanted.setdefault(control.key, (control, []))[1].append(steps)
    return [
        _cell(run, control, steps)
        for control, all_steps in wanted.values()
        for steps in grouped(all_steps)
        for run in control.runs
    ]


def grouped(steps: list[int]) -> list[int]:
    """The largest of each group of numbers that are within 5 % of its smallest."""
    groups: list[list[int]] = []
    for number in sorted(steps):
        if groups and number <= groups[-1][0] * (1 + SAME_TIME):
            groups[-1].append(number)
        else:
            groups.append([number])
    return [group[-1] for group in groups]


def _cell(run: Run, control: Method, steps: int) -> Cell:
    name = f"{run.name}-none-{steps}-steps" if control.role == BASELINE else f"{run.name}-{steps}-steps"
    plain = ("distil=[]", "baseline=false") if control.role == BASELINE else ()
    axes = dict(run.axes) if control.role != BASELINE else {"distil": "none", "seed": run.seed}
    changes = (*run.overrides, *plain, "train.epochs=null", f"train.steps={steps}", f"name={name}")
    return Cell(name, changes, axes | {EQUAL_TIME: f"{steps} steps"})


def known_controls(folder: Path, now: Sequence[Cell]) -> list[Cell]:
    """Those that an earlier pass has made for runs that the sweep still has; empty for a new sweep."""
    cells = read_json(folder / "sweep.json")["cells"] if is_sweep(folder) else []
    known = [Cell(c["name"], tuple(c["overrides"]), c["axes"]) for c in cells if EQUAL_TIME in c["axes"]]
    return [cell for cell in known if any(cell.overrides[: len(run.overrides)] == run.overrides for run in now)]
