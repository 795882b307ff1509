"""Benchmarks can be started, and one that had no time leaves what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def python(*arguments, **variables):
    """Run Python in the benchmarks' folder, on one image of the demo at most."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT / "benchmarks", env=os.environ | variables, capture_output=True, text=True, timeout=500
    )


def test_all_of_them_import():
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
    assert "bench" in names
    found = python("-c", "import " + ", ".join(names))
    assert found.returncode == 0, found.stderr


def test_a_benchmark_without_time_writes_what_it_has_and_names_the_rest(tmp_path):
    found = python("bench.py", "--limit", 1, "--only", "ours", "--minutes", 0, "--output", tmp_path)
    assert found.returncode == 0, found.stderr
    [result] = tmp_path.glob("*.json")
    rows = json.loads(result.read_text())["rows"]
    assert list(rows) == ["ours", "upstream"]
    assert min(rows["ours"]["agreement"]) > 0.99
    text = Path(result).with_suffix(".md").read_text()
    assert "times the floor" in text
    assert "Not measured, as the time was over before: others, steps, boxes, dataset, memory." in text
    assert found.stdout.count(text) == 1
