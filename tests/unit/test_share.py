"""Stages that runs of a sweep have in common: made once, taken by the others, taken over from a killed run."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from limbeck import run
from limbeck.stages.context import Context
from limbeck.stages.plan import Stage
from limbeck.stages.share import SHARED, give, held, take


def stage(runs: Path, name: str, stage_name: str = "teacher") -> Stage:
    return Stage(stage_name, runs / name / stage_name, {}, {"seed": 0}, "f00d")


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def lines(run_folder: Path) -> list[tuple[str, int]]:
    return [
        (line["stage"], line["step"])
        for line in map(json.loads, (run_folder / "metrics.jsonl").read_text().splitlines())
    ]


def log(run_folder: Path, *entries: tuple[str, int], torn: bool = False) -> None:
    text = "".join(json.dumps({"stage": name, "step": step}) + "\n" for name, step in entries)
    write(run_folder / "metrics.jsonl", text + '{"stage": "tea' * torn)


def made(runs: Path, name: str) -> Stage:
    found = stage(runs, name)
    write(found.folder / "record.json", {"fingerprint": "f00d", "result": {"weights": "teacher.safetensors"}})
    write(found.folder / "teacher.safetensors", "weights")
    write(found.folder / "checkpoints" / "step-00000005.pt", "state")
    log(runs / name, ("teacher", 5), ("student", 1))
    return found


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared" / "teacher-f00d"


def test_what_one_run_made_another_takes(tmp_path: Path, entry: Path) -> None:
    give(entry, made(tmp_path, "a"))
    theirs = stage(tmp_path, "b")
    write(theirs.folder / "best.safetensors", "of a training that was given up")
    log(tmp_path / "b", ("teacher", 2), ("teacher", 3), torn=True)
    assert take(entry, theirs) == "a"
    assert sorted(path.name for path in theirs.folder.iterdir()) == ["record.json", "teacher.safetensors"]
    assert (theirs.folder / "teacher.safetensors").samefile(tmp_path / "a" / "teacher" / "teacher.safetensors")
    assert json.loads((theirs.folder / "record.json").read_text())["shared_from"] == "a"
    assert "shared_from" not in json.loads((tmp_path / "a" / "teacher" / "record.json").read_text())
    assert lines(tmp_path / "b") == [("teacher", 5)]
    assert theirs.done()


def test_a_killed_run_leaves_its_checkpoints_to_the_next(
    tmp_path: Path, entry: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    killed, heir = stage(tmp_path, "a"), stage(tmp_path, "b")
    assert take(entry, killed) is None
    write(killed.folder / "started.json", {"fingerprint": "f00d"})
    write(killed.folder / "checkpoints" / "step-00000005.pt", "state")
    log(tmp_path / "a", ("teacher", 5), torn=True)
    log(tmp_path / "b", ("other", 1))
    assert take(entry, heir) is None
    assert "teacher: goes on where a was killed" in capsys.readouterr().err
    assert (heir.folder / "checkpoints" / "step-00000005.pt").read_text() == "state"
    assert not killed.folder.exists()
    assert lines(tmp_path / "b") == [("other", 1), ("teacher", 5)]
    write(heir.folder / "record.json", {"fingerprint": "f00d", "result": {}})
    give(entry, heir)
    assert take(entry, killed) == "b"


def test_a_run_that_is_further_keeps_its_own(tmp_path: Path, entry: Path) -> None:
    killed, further = stage(tmp_path, "a"), stage(tmp_path, "b")
    assert take(entry, killed) is None
    for one, step in ((killed, 3), (further, 4)):
        write(one.folder / "started.json", {"fingerprint": "f00d"})
        write(one.folder / "checkpoints" / f"step-{step:08d}.pt", "state")
    assert take(entry, further) is None
    assert [path.name for path in further.folder.rglob("*.pt")] == ["step-00000004.pt"]


def test_other_keys_are_not_taken_over(tmp_path: Path, entry: Path) -> None:
    killed, other = stage(tmp_path, "a"), stage(tmp_path, "b")
    assert take(entry, killed) is None
    write(killed.folder / "started.json", {"fingerprint": "beef"})
    write(killed.folder / "checkpoints" / "step-00000005.pt", "state")
    assert take(entry, other) is None
    assert not other.folder.exists()


def test_a_run_killed_between_its_record_and_giving_has_made_it(tmp_path: Path, entry: Path) -> None:
    assert take(entry, stage(tmp_path, "a")) is None
    made(tmp_path, "a")
    assert take(entry, stage(tmp_path, "b")) == "a"


def test_what_was_half_given_is_given_again(tmp_path: Path, entry: Path) -> None:
    write(entry.with_name(".teacher-f00d.part") / "stage" / "half", "")
    give(entry, made(tmp_path, "a"))
    assert not (entry / "stage" / "half").exists()
    assert (entry / "stage" / "record.json").is_file()


def test_where_nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SHARED, raising=False)
    with held(stage(tmp_path, "a")) as entry:
        assert entry is None
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    with held(stage(tmp_path, "a", "bench")) as entry:
        assert entry is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with held(stage(tmp_path, "a")) as entry:
        assert entry is None


def test_two_runs_at_once_make_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path / "shared"))
    begun, both, calls = threading.Event(), threading.Barrier(2), []

    def work(context: Context) -> dict[str, str]:
        calls.append(context.folder.name)
        begun.set()
        both.wait(60)
        write(context.folder / "teacher" / "teacher.safetensors", "weights")
        return {"weights": "teacher.safetensors"}

    monkeypatch.setattr(run, "_work", lambda name: work)

    def begin(name: str) -> None:
        run._do(Context(None, tmp_path / name), stage(tmp_path, name), again=True)  # type: ignore[arg-type]

    first = threading.Thread(target=begin, args=("a",))
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=begin, args=("b",))
    second.start()
    both.wait(60)
    first.join()
    second.join()
    assert calls == ["a"]
    assert stage(tmp_path, "b").done()
    said = capsys.readouterr().err
    assert "teacher: taken from a" in said
