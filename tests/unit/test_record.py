import json
import math
import os
import resource
import stat

import pytest
import torch

from limbeck.data.weight_file import save_tensors
from limbeck.record import UserError, digest, file_digest, read_json, whole, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    with whole(path) as part:
        part.write_text("new")
        assert not path.exists()
        assert part.parent == path.parent
        assert part.suffix == ".txt"
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RuntimeError])
def test_an_error_leaves_the_file_before_and_nothing_beside(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with whole(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_may_appear_whole_too(tmp_path):
    with whole(tmp_path / "run") as part:
        part.mkdir()
        (part / "a.txt").write_text("x")
    assert names(tmp_path / "run") == ["a.txt"]

    def broken():
        with whole(tmp_path / "other") as part:
            part.mkdir()
            (part / "a.txt").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert names(tmp_path) == ["run"]


def test_a_folder_in_the_files_place(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "b").write_text("x")
    with pytest.raises(UserError, match=r"a\.txt: a folder is in the file's place"):
        write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]
    assert names(tmp_path / "a.txt") == ["b"]


def test_an_empty_folder_in_the_files_place(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"a\.txt"):
        write_text(tmp_path / "a.txt", "new")
    assert names(tmp_path) == ["a.txt"]


def test_a_file_in_the_folders_place(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match=r"run/a\.txt: could not be written"):
        write_text(tmp_path / "run" / "a.txt", "new")


@pytest.fixture
def small_files_only():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_text(path, "x" * 100_000),
        lambda path: write_json(path, list(range(100_000))),
        lambda path: save_tensors({"w": torch.zeros(100_000)}, path, {}),
    ],
    ids=["text", "json", "safetensors"],
)
def test_a_full_disk_is_the_users_error_and_leaves_what_was_there(tmp_path, small_files_only, write):
    path = tmp_path / "a.bin"
    path.write_text("old")
    with pytest.raises(UserError, match=r"a\.bin: could not be written \(.*File too large.*\)\. Nothing was replaced"):
        write(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.bin"]


def test_files_get_the_rights_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        with whole(tmp_path / "a.txt") as part:
            part.write_text("x")
            part.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_json_survives(tmp_path):
    value = {"a": [1, 2.5, None, True], "ä": {"b": "ß"}, "t": (1, 2)}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value | {"t": [1, 2]}
    assert "ß" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_no_number_is_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": [math.nan, 1.0], "b": {"c": math.nan}})
    assert read_json(tmp_path / "a.json") == {"a": [None, 1.0], "b": {"c": None}}


def strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_written_json_is_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, -math.inf]})
    assert strict((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, None]}


def test_what_is_no_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{'a': 1}")
    with pytest.raises(UserError, match=r"a\.json: not a JSON file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.json: not a JSON file"):
        read_json(tmp_path / "a.json")


def test_digests():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest([1, 2]) != digest([2, 1])
    assert len(digest(None)) == 16


def test_file_digests(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_digest(tmp_path / "a") == "ba7816bf8f01cfea"  # the first 16 digits of SHA-256 of "abc"
    for folder in ("one", "two"):
        (tmp_path / folder / "in").mkdir(parents=True)
        (tmp_path / folder / "in" / "x").write_text("x")
    assert file_digest(tmp_path / "one") == file_digest(tmp_path / "two")
    (tmp_path / "two" / "in" / "x").rename(tmp_path / "two" / "in" / "y")
    assert file_digest(tmp_path / "one") != file_digest(tmp_path / "two")
