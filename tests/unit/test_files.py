"""Files that appear whole, packages that may be missing, and what a report says of an error."""

import sys

import pytest

from mobilesam import ImageError, MissingPackageError, PromptError
from mobilesam.errors import reason_of
from mobilesam.files import replacing
from mobilesam.packages import require


@pytest.mark.parametrize("sync", [True, False])
def test_a_file_appears_whole_and_leaves_nothing_else(tmp_path, sync):
    path = tmp_path / "report.json"
    path.write_text("old")
    with replacing(path, sync=sync) as unfinished:
        unfinished.write_text("new")
        assert path.read_text() == "old"
        assert unfinished.parent == tmp_path
        assert unfinished.suffix == ".unfinished"
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "new")]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, error):
    path = tmp_path / "report.json"
    path.write_text("old")

    def write():
        with replacing(path) as unfinished:
            unfinished.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "old")]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "report.json"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert [(file, file.read_text()) for file in tmp_path.iterdir()] == [(path, "first")]


@pytest.mark.parametrize(
    ("extra", "command"), [(None, "pip install no_such_package$"), ("ray", r"pip install 'mobilesam\[ray\]'$")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(extra, command):
    with pytest.raises(
        MissingPackageError, match=f"no_such_package must be installed, got No module .* Run: {command}"
    ):
        require("no_such_package.part", extra=extra)


def test_require_returns_the_module_it_names(monkeypatch):
    assert require("json.decoder") is sys.modules["json.decoder"]
    monkeypatch.setitem(sys.modules, "json", None)
    with pytest.raises(MissingPackageError):
        require("json.decoder")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PromptError("box must be inside."), "box must be inside."),
        (ImageError(), "ImageError"),
        (OSError(28, "No space left"), "OSError: [Errno 28] No space left"),
        (ValueError(), "ValueError"),
    ],
)
def test_reason_names_the_type_of_errors_that_are_not_ours(error, reason):
    assert reason_of(error) == reason
