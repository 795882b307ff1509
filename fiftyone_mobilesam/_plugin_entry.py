"""What FiftyOne's App executes again on every request: so no state here, and no import that brings torch."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1]  # not resolved: the plugin's folder, which may be a link to a checkout
if find_spec("fiftyone_mobilesam") is None:  # the plugin's folder is a checkout, and the package is not installed
    sys.path.insert(0, str(FOLDER.resolve()))


def register(plugin: Any) -> None:
    """Register the operators and panels, which `fiftyone.yml` lists too."""
    from fiftyone_mobilesam.app import OPERATORS, PANELS
    from fiftyone_mobilesam.app.annotation_files import restore

    for operator in (*OPERATORS, *PANELS):
        plugin.register(operator)
    restore(FOLDER)
