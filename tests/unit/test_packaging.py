"""What is written in two places says the same in both."""

import json
import re
from pathlib import Path

import pytest

import mobilesam

ROOT = Path(__file__).resolve().parents[2]


def dependencies() -> list[str]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_requirements_match_pyproject():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == dependencies()


def test_zoo_requirements_are_the_dependencies():
    (model,) = json.loads((ROOT / "manifest.json").read_text())["models"]
    assert model["requirements"]["packages"] == dependencies()


def test_plugin_card_has_the_version():
    version = re.search(r"^version: (.+)$", (ROOT / "fiftyone.yml").read_text(), re.MULTILINE)
    assert version.group(1) == mobilesam.__version__


def test_zoo_manifest_has_the_size_of_the_weights():
    (model,) = json.loads((ROOT / "manifest.json").read_text())["models"]
    assert model["size_bytes"] == mobilesam.weights.BUNDLED.stat().st_size
