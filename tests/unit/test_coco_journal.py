"""A journal loses at most the line that was being written."""

import os

import pytest

from fiftyone_mobilesam.sinks.journal import Journal
from mobilesam import AnnotationError

FIRST = [("k1", b'{"a": 1}'), ("k2", b'{"text": "\\t \\n"}')]
SECOND = [("k3", b"{}")]


def write(path):
    with Journal(path) as journal:
        journal.append("one", "f1", FIRST)
        journal.append("two", "f2", SECOND)


def test_records_come_back(tmp_path):
    path = tmp_path / "a.journal"
    write(path)
    with Journal(path) as journal:
        assert (journal.fingerprint("one"), journal.fingerprint("two"), journal.fingerprint("x")) == ("f1", "f2", None)
        assert [(entry.key, entry.text) for entry in journal.entries("one")] == FIRST
        assert [journal.text(entry.offset, len(entry.text)) for entry in journal.entries("one")] == [
            t for _, t in FIRST
        ]
        assert journal.entries("x") == []
        journal.append("one", "f3", SECOND)
    with Journal(path) as journal:  # the last line of an image counts
        assert journal.fingerprint("one") == "f3"
        assert [(entry.key, entry.text) for entry in journal.entries("one")] == SECOND
        assert journal.dropped == 0


def test_a_journal_cut_off_at_any_byte_goes_on(tmp_path):
    path = tmp_path / "a.journal"
    write(path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            done = [name for name in ("one", "two") if journal.fingerprint(name)]
            assert len(done) == max(0, sum(end <= length for end in ends) - 1)
            assert journal.dropped == (length > ends[0] and length not in ends)
            journal.append("new", "f", SECOND)
        with Journal(path) as journal:
            assert journal.dropped == 0
            assert [name for name in ("one", "two", "new") if journal.fingerprint(name)] == [*done, "new"]


def test_a_damaged_line_costs_itself(tmp_path):
    path = tmp_path / "a.journal"
    write(path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"f1") + 4] ^= 1
    path.write_bytes(whole)
    with Journal(path) as journal:
        assert (journal.fingerprint("one"), journal.fingerprint("two"), journal.dropped) == (None, "f2", 1)


def test_another_file_is_not_overwritten(tmp_path):
    path = tmp_path / "a.journal"
    path.write_text("my notes\n")
    with pytest.raises(AnnotationError, match="another file"):
        Journal(path)
    assert path.read_text() == "my notes\n"


def test_one_run_at_a_time(tmp_path):
    pytest.importorskip("fcntl", reason="fcntl, with which files are locked, is not on this system")
    with Journal(tmp_path / "a.journal"), pytest.raises(AnnotationError, match="another run"):
        Journal(tmp_path / "a.journal")
    with Journal(tmp_path / "a.journal"):
        pass


def test_a_full_disk_leaves_the_journal_whole(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full, a disk that is full, is not on this system")
    path = tmp_path / "a.journal"
    write(path)
    before = path.read_bytes()
    with Journal(path) as journal:
        write_to_disk, room = os.write, [10]

        def write_while_there_is_room(file, data):
            if room:
                return write_to_disk(file, data[: room.pop()])
            with open("/dev/full", "wb", buffering=0) as full:
                return full.write(data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", write_while_there_is_room)
            with pytest.raises(OSError, match="No space left"):
                journal.append("three", "f3", FIRST)
    assert path.read_bytes() == before
