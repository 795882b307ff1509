"""FiftyOne's private names stand in one file, with why and since when."""

import ast
import re
from pathlib import Path

import fiftyone
import pytest

from fiftyone_mobilesam import host

ADAPTER = Path(host.__file__).parent
FILES = [path for path in sorted(ADAPTER.rglob("*.py")) if path.name != "host.py"]
OWN = {"self", "cls"}


def private_names(path: Path) -> set[str]:
    """Return the private attributes that a file reads of anything but its own objects."""
    return {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in OWN)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ADAPTER)))
def test_private_names_of_fiftyone_are_used_in_host_only(path):
    assert private_names(path) == set()


def test_each_name_says_why_and_since_when():
    functions = [node for node in ast.parse(Path(host.__file__).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert len(functions) > 10
    assert all(re.search(r"Since \d+\.\d+", ast.get_docstring(function)) for function in functions)


def test_the_installed_version_was_tested():
    assert fiftyone.__version__ in host.TESTED_WITH, "run all tests, then add this version of FiftyOne to TESTED_WITH"
