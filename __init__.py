"""Zoo door: FiftyOne runs this file in its copy of the repository. An installed package comes before the copy."""

import sys
from importlib.util import find_spec
from pathlib import Path

if find_spec("fiftyone_mobilesam") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parent))  # worker processes inherit it and find the package too

from fiftyone_mobilesam.remote_zoo import download_model, load_model, parse_parameters, resolve_input

__all__ = ["download_model", "load_model", "parse_parameters", "resolve_input"]
