"""A COCO job that is killed again and again ends with the file of an unbroken run: twice, or with `--soak` 12 times."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from scenes import draw_scene

from fiftyone_mobilesam import label_coco

BOXES = 6
JOB = """
import sys
from fiftyone_mobilesam import label_coco
label_coco(*sys.argv[1:4], device="cpu", verify=False, progress=False)
"""


@pytest.fixture
def inputs(tmp_path, soak):
    rng = np.random.default_rng(3)
    images, annotations = [], []
    for i in range(24 if soak else 8):
        centres, radii = rng.uniform(60, 180, (BOXES, 2)), rng.uniform(15, 55, (BOXES, 2))
        Image.fromarray(draw_scene(list(zip(centres, radii, strict=True)))).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
        for (x, y), (rx, ry) in zip(centres.tolist(), radii.tolist(), strict=True):
            box = {"image_id": i, "category_id": 1, "bbox": [x - rx, y - ry, 2 * rx, 2 * ry]}
            annotations.append({"id": len(annotations), **box})
    random.Random(0).shuffle(annotations)
    path = tmp_path / "in.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}))
    return path, tmp_path


def test_killed_at_random_moments_it_ends_as_an_unbroken_run(inputs, soak):
    path, folder = inputs
    label_coco(path, folder, folder / "whole.json", device="cpu", verify=False, progress=False)
    out, journal, chance = folder / "out.json", folder / "out.json.journal", random.Random(1)
    command = [sys.executable, "-W", "ignore", "-c", JOB, path, folder, out]
    kills, lines = 0, 0
    while kills < (12 if soak else 2):
        process = subprocess.Popen(command)
        # Kill while it works: when the next image or the one after it is done, and a little later.
        wanted = lines + chance.randint(1, 2)
        while process.poll() is None and count(journal) < wanted:
            time.sleep(0.005)
        time.sleep(chance.random() * 0.2)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        lines = count(journal)
        assert not out.exists(), "the job ended before it was killed often enough"
    label_coco(path, folder, out, device="cpu", verify=False, progress=False)
    made, whole = (json.loads((folder / name).read_text()) for name in ("out.json", "whole.json"))
    assert [a["id"] for a in made["annotations"]] == [a["id"] for a in whole["annotations"]]
    assert out.read_bytes() == (folder / "whole.json").read_bytes()
    assert all(a["failure"] is None for a in made["annotations"])


def count(journal) -> int:
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0
