"""`mobilesam.build_sam` is the original's function, and a module of that name."""

import subprocess
import sys

import pytest

USES = {
    "the name alone": "import mobilesam",
    "the module first": "import mobilesam.build_sam",
    "the module after": "import mobilesam; mobilesam.build_sam; import mobilesam.build_sam",
    "the function, then the module": "from mobilesam import build_sam; import mobilesam.build_sam",
    "the module by another part": "import mobilesam; mobilesam.SAM",
    "the name of a function": "import mobilesam; from mobilesam import build_sam, sam_model_registry",
}
CHECK = """
import inspect
from mobilesam import build_sam as imported
from mobilesam.build_sam import build_sam as function
for found in (mobilesam.build_sam, imported, function):
    assert type(found()).__name__ == "Sam", found
    assert list(inspect.signature(found).parameters) == ["checkpoint"], found
from mobilesam.build_sam import load_model, sam_model_registry
import mobilesam.build_sam
import mobilesam.build_sam as module
assert mobilesam.build_sam.sam_model_registry is imported.sam_model_registry is module.sam_model_registry
"""


@pytest.mark.parametrize("use", USES)
def test_build_sam_can_be_called_whoever_imported_the_module(use):
    done = subprocess.run([sys.executable, "-c", USES[use] + CHECK], capture_output=True, text=True)
    assert not done.returncode, done.stderr
