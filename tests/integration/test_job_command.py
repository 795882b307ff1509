"""The command `fiftyone-mobilesam` on a dataset: what it does, prints, and says of wrong usage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from job_calls import BOXES, label
from PIL import Image
from scenes import LEFT, detections, draw_scene

from fiftyone_mobilesam import cli


def test_the_command(make_dataset, tmp_path, capsys):
    dataset = make_dataset(
        {"detections": detections(*BOXES)},
        {"filepath": str(tmp_path / "no.png"), "detections": detections(BOXES[0])},
        {"detections": detections([0.5, 0.5, 0, 0])},
    )
    command = ["label", "--dataset", dataset.name, "--prompt-field", "detections", "--job", "nightly"]
    assert cli.main([*command, "--json", str(tmp_path / "report.json"), "--option", "clip=0.05"]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert {name: report[name] for name in ("total", "done", "masks", "failed_prompts", "state")} == {
        "total": 3, "done": 2, "masks": 2, "failed_prompts": 1, "state": "finished"
    }  # fmt: skip
    capsys.readouterr()
    assert cli.main(["status", "nightly", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 1
    assert cli.main(["failures", "nightly", "--export", str(tmp_path / "failures.csv")]) == 0
    lines = (tmp_path / "failures.csv").read_text().splitlines()
    assert len(lines) == 3
    assert "does not exist" in lines[1]
    assert "x2 > x1" in lines[2]
    Image.fromarray(draw_scene([LEFT])).save(tmp_path / "no.png")
    assert cli.main(["resume", "nightly", "--json", str(tmp_path / "report.json")]) == 1
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["done"], report["up_to_date"]) == (1, 2)
    assert dataset.get_run_info("mobilesam_nightly").config.call["clip"] == 0.05


def test_a_job_on_a_view_resumes_on_it(pair, capsys):
    label(pair.limit(1), job="on_a_view")
    assert cli.main(["resume", "on_a_view"]) == 0
    assert pair.values("masks.failed_prompts") == [0, None, None]


@pytest.mark.parametrize(
    "words",
    [
        ["label", "--dataset", "is not there"],
        ["status", "is_not_there"],
        ["label", "--coco", "a.json"],
        ["label", "--coco", "a.json", "--images", "b", "--out", "c", "--prompt-field", "boxes"],
        ["label", "--coco", "a.json", "--images", "b", "--out", "c", "--option", "clipp=1"],
        ["label", "--dataset", "a", "--out", "c"],
        ["resume", "is/not/there.json"],
    ],
)
def test_wrong_usage_of_the_command(words, capsys):
    assert cli.main(words) == 2
    assert "error:" in capsys.readouterr().err


def test_help_is_quick():
    code = "import sys, fiftyone_mobilesam.cli as c\ntry: c.main(['label', '--help'])\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'fiftyone', 'numpy'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL)
