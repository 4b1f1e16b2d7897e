"""`limbeck search`: runs whose values Optuna chooses by what earlier ones gave."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.recipe import Recipe
from limbeck.record import UserError, digest, locked, write_json
from limbeck.report.rows import latency, number, score_name
from limbeck.stop import between_steps
from limbeck.sweep.board import Board
from limbeck.sweep.children import Sweep
from limbeck.sweep.folder import opened
from limbeck.sweep.loop import obey
from limbeck.sweep.pool import LOOK_SECONDS, Pool, slots, state_of
from limbeck.sweep.space import cell, corners, distributions, searched

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

    from limbeck.stages.rows import Row

__all__ = ["search"]

Json = dict[str, Any]


def search(sweep: Sweep, trials: int | None) -> Json:
    """Do trials until there are so many; what they gave is written to search.json in the search's folder.

    A trial is an ordinary run; one that was stopped goes on. Several processes may do one search together.

    Args:
        sweep: The recipe, and how its runs are done; it needs no cells.
        trials: In all, those of earlier commands too; what the recipe says if None.

    Returns:
        ``folder``, ``row``, ``goals`` and ``trials``: each with ``name``, ``state``, ``values``, ``drawn`` and
        ``best``, true where no other is better in every goal.

    Raises:
        UserError: If a value that may be tried would not work, before the first trial begins; or without Optuna.
        KeyboardInterrupt, Evicted: After a signal, once every run has saved.
    """
    from limbeck.stages.check import check
    from limbeck.stages.context import runs_root

    recipe = sweep.recipe()
    wanted = searched(recipe)
    if wanted.latency and sweep.workers > 1:
        raise UserError(f"--workers {sweep.workers}: latency is measured by one run at a time; leave it out.")
    row = _row(recipe)
    for corner in corners(recipe):
        run = sweep.recipe(corner)
        _refuse_other_rows(recipe, run, row)
        check(run, to_run=True)
    path = runs_root() / f"{recipe.name}-search"
    study = _study(recipe, path)
    with locked(path / "locks" / "search"):  # no other process draws a trial between the two
        known = [cell(recipe, trial.number, trial.params) for trial in study.get_trials(deepcopy=False)]
        folder = opened(path, recipe.name, sweep.source, sweep.overrides, known)
    _do(sweep, study, Pool(folder, slots(sweep.workers, sweep.gpus)), trials or wanted.trials)
    found = _described(recipe, study, path)
    write_json(path / "search.json", found)
    return found


def _study(recipe: Recipe, path: Path) -> "Study":
    """The search's memory: a journal that several processes may write."""
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UserError("limbeck search needs Optuna: pip install 'limbeck[search]'.") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.mkdir(parents=True, exist_ok=True)
    wanted, journal = searched(recipe), path / "search.journal"
    study = optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))), study_name=recipe.name,
        directions=["maximize", "minimize"] if wanted.latency else ["maximize"], load_if_exists=True,
    )  # fmt: skip
    if study.user_attrs.setdefault("recipe", _compared(recipe)) != _compared(recipe):
        raise UserError(f"{journal}: these trials were of another recipe; give this search a name with name=...")
    study.set_user_attr("recipe", _compared(recipe))
    return study


def _sampler(recipe: Recipe, trials: int) -> "BaseSampler":
    """What draws the next trial: seeded by the number of those before, so that no two processes draw the same."""
    from optuna.samplers import RandomSampler, TPESampler

    kinds = {"tpe": TPESampler, "random": RandomSampler}
    return kinds[searched(recipe).sampler](seed=recipe.seed + trials)


def _compared(recipe: Recipe) -> str:
    """Hash of what trials must have in common to be compared."""
    found = recipe.resolved()
    found["search"] = {key: found["search"][key] for key in ("space", "latency", "row")}
    found["data"] = {key: value for key, value in found["data"].items() if key not in ("workers", "cache", "cache_gib")}
    return digest(found)


def _do(sweep: Sweep, study: "Study", pool: Pool, trials: int) -> None:
    """Keep the pool busy with trials that were dropped, and then with new ones, until there are enough."""
    recipe, numbers = sweep.recipe(), dict[str, int]()
    verb = "run" if searched(recipe).latency else "evaluate"
    board = Board(pool.folder, max(0, trials - _over(study)), pool.size)
    with between_steps() as asked:
        try:
            while pool.running or _over(study) < trials:
                while pool.free and (trial := _next(recipe, study, pool, trials)) is not None:
                    run = cell(recipe, trial.number, trial.params)
                    numbers[run.name] = trial.number
                    board.begins(run.name)
                    pool.begin(run.name, sweep.command(run, verb))
                board.beat(pool.running, trials - _over(study))
                ended = pool.ended()
                for name, code in ended.items():
                    board.ended(name, code)
                    _tell(sweep, study, numbers[name], code)
                obey(asked.signum, ended)
                time.sleep(LOOK_SECONDS)
        except BaseException:
            for name, code in pool.stop(asked.signum or signal.SIGTERM).items():
                board.ended(name, code)
            raise


def _over(study: "Study") -> int:
    """Trials that came to an end."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _next(recipe: Recipe, study: "Study", pool: Pool, trials: int) -> "Trial | FrozenTrial | None":
    """A claimed trial that no process does any more, else a new one; None if there are enough."""
    with locked(pool.folder.path / "locks" / "search"):
        known = study.get_trials(deepcopy=False)
        for trial in [trial for trial in known if not trial.state.is_finished()]:
            if pool.claim(cell(recipe, trial.number, trial.params).name):
                return trial
        if len(known) >= trials:
            return None
        study.sampler = _sampler(recipe, len(known))
        new = study.ask(distributions(recipe))
        run = cell(recipe, new.number, new.params)
        pool.folder.add(run)
        pool.claim(run.name)
        return new


def _tell(sweep: Sweep, study: "Study", trial: int, code: int) -> None:
    """Report a run's values; one that was stopped is still to come."""
    from optuna.trial import TrialState

    if state_of(code) == "stopped":
        return
    recipe, drawn = sweep.recipe(), study.get_trials(deepcopy=False)[trial].params
    values = _measured(recipe, sweep.recipe(cell(recipe, trial, drawn))) if code == 0 else []
    known = [value for value in values if value is not None]
    if known and known == values:  # another process may have taken the run up and told the same
        study.tell(trial, known, skip_if_finished=True)
    else:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)


def _measured(recipe: Recipe, done: Recipe) -> list[float | None]:
    """Score, and latency where it counts, of a run's row that counts."""
    from limbeck.stages.context import Context, runs_root
    from limbeck.stages.report import summary

    rows = summary(Context(done, runs_root() / done.name))["rows"]
    found = next(row for row in rows if row["id"] == _row(recipe))
    score = number(found, score_name(rows))
    return [score, latency(found)] if searched(recipe).latency else [score]


def _row(recipe: Recipe) -> str:
    """Id of the row that counts: the one of the recipe, else what ships.

    That is the last integer file on its own target, or the float file on ONNX Runtime, or the network in PyTorch.

    Raises:
        UserError: If the recipe names a row that its runs will not have.
    """
    own = _own_rows(recipe)
    wanted = searched(recipe).row
    if wanted is not None and wanted not in [row.id for row in own]:
        known = ", ".join(row.id for row in own)
        raise UserError(f"{recipe.place / 'search' / 'row'}: no row {wanted!r}; the student's are {known}.")
    integer = [row.id for row in own if row.target == row.runtime and not row.label.endswith("-ptq")]
    plain = [row.id for row in own if row.runtime == "onnxruntime" and row.precision == "fp32"]
    return wanted or [own[0].id, *plain[-1:], *integer[-1:]][-1]


def _own_rows(recipe: Recipe) -> "list[Row]":
    from limbeck.stages.context import Context
    from limbeck.stages.rows import rows

    return [row for row in rows(Context(recipe, Path())) if row.model == "student"]


def _refuse_other_rows(recipe: Recipe, run: Recipe, row: str) -> None:
    known = [own.id for own in _own_rows(run)]
    if row not in known:
        place = recipe.place / "search"
        raise UserError(
            f"{place}: {row} counts, and not all that may be tried has it; search.row names one that all have, such as "
            f"{known[0]}."
        )


def _described(recipe: Recipe, study: "Study", path: Path) -> Json:
    """What the trials gave, the best ones first."""
    best = {trial.number for trial in study.best_trials} if any(t.values for t in study.trials) else set()
    goals = ["score", *["latency_ms"] * searched(recipe).latency]
    trials = [
        {
            "name": cell(recipe, trial.number, trial.params).name, "state": trial.state.name.lower(),
            "values": trial.values, "drawn": trial.params, "best": trial.number in best,
        }
        for trial in study.trials
    ]  # fmt: skip
    trials.sort(key=lambda trial: (not trial["best"], -trial["values"][0] if trial["values"] else 0.0))
    return {"name": recipe.name, "folder": str(path), "row": _row(recipe), "goals": goals, "trials": trials}
