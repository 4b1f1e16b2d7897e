import pytest

from limbeck.models._hub import hub_json
from limbeck.record import UserError


def test_json_of_a_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert hub_json(str(tmp_path), "config.json", tmp_path) == {"a": 1}
    assert hub_json(str(tmp_path), "other.json", tmp_path) == {}


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe", b"[1, 2]"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json: (not a JSON file|holds a list)"):
        hub_json(str(tmp_path), "config.json", tmp_path)
