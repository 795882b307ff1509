"""Reading a JSON object in pieces finds what `json` finds, wherever the file is cut into chunks."""

import json

import pytest

from fiftyone_mobilesam.sources import json_items as items
from mobilesam import AnnotationError

OBJECT = {
    "a": [1, 22, 333.5, {"é": 'ü"]}'}, [], None],
    "b": {"x": [1, -2e-3]},
    "c": 12345,
    "empty": [],
    "list": [{"id": 1}, {"id": 2, "n": [1, [2]]}],
}


def read(path, lists=("a", "empty", "list")):
    found, raw = {}, path.read_bytes()
    for item in items.read_items(path, lists):
        assert raw[item.offset : item.offset + len(item.text)] == item.text
        if item.kind == "start":
            found[item.key] = []
        elif item.kind == "item":
            found[item.key].append(json.loads(item.text))
        elif item.kind == "value":
            found[item.key] = json.loads(item.text)
    return found


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])
def test_items_are_those_of_json(tmp_path, monkeypatch, chunk, style):
    monkeypatch.setattr(items, "CHUNK", chunk)
    path = tmp_path / "a.json"
    for value in ({}, OBJECT):
        path.write_bytes(json.dumps(value, **style).encode())
        assert read(path) == value
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(OBJECT, **style).encode())
    assert read(path) == OBJECT


def test_a_file_that_is_cut_off_anywhere_is_an_error(tmp_path):
    whole, path = json.dumps(OBJECT).encode(), tmp_path / "a.json"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(AnnotationError, match="must be a COCO file"):
            read(path)


@pytest.mark.parametrize("text", [b"[1]", b'{"a": 1} x', b'{"a" 1}', b"{,}", b'{"a": [1,]}', b"\xff\xfe{", b"{'a': 1}"])
def test_what_is_no_object_says_where(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(AnnotationError, match=r"at byte \d+.*Export it again"):
        read(tmp_path / "a.json")


def test_deep_nesting_and_a_missing_file_are_errors(tmp_path):
    (tmp_path / "a.json").write_bytes(b'{"a": ' + b"[" * 100_000)
    for name in ("a.json", "missing.json"):
        with pytest.raises(AnnotationError, match=name):
            list(items.read_items(tmp_path / name, ()))
