"""Bad images, boxes, checkpoints and calls of a job: each costs itself, and says what was expected."""

import os
from pathlib import Path

import numpy as np
import pytest
from job_calls import BOXES, counts, label
from PIL import Image
from scenes import LEFT, RIGHT, detections, draw_scene

import fiftyone_mobilesam as fom
from mobilesam import CheckpointError, FieldError

ODD_NAME = 'it\'s "quoted" ünï 像.png'


def bad_files(folder: Path) -> dict[str, str | None]:
    """Write bad images; return for each what its failure says, or None if it can be read."""
    good = Image.fromarray(draw_scene([LEFT, RIGHT]))
    good.save(folder / "good.png")
    data = (folder / "good.png").read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "zeros.png").write_bytes(bytes(1000))
    (folder / "cut off.png").write_bytes(data[: len(data) // 2])
    (folder / "png in truth.jpg").write_bytes(data)
    (folder / "text.jpg").write_text("no image")
    good.resize((1, 1)).save(folder / "one pixel.png")
    good.resize((30000, 20)).save(folder / "long.png")
    Image.fromarray(np.asarray(good.convert("L")).astype(np.uint16) * 16).save(folder / "twelve bits.png")
    Image.new("1", (10000, 10001)).save(folder / "huge.png")
    good.save(folder / ODD_NAME)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    return {
        "missing.png": "does not exist",
        "empty.jpg": "0 bytes",
        "zeros.png": "1000 bytes",
        "cut off.png": "cannot be read",
        "text.jpg": "8 bytes",
        "huge.png": "1,000,000 pixels at most",
        "loop.png": "symbolic links",
        "folder.png": "directory",
        "pipe.png": "a pipe or device",
        **dict.fromkeys(
            [
                "good.png",
                "png in truth.jpg",
                "one pixel.png",
                "long.png",
                "twelve bits.png",
                ODD_NAME,
            ]
        ),
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_cost_themselves(make_dataset, tmp_path, workers):
    (tmp_path / "bad").mkdir()
    expected = bad_files(tmp_path / "bad")
    samples = [{"filepath": str(tmp_path / "bad" / name), "detections": detections([0, 0, 1, 1])} for name in expected]
    dataset = make_dataset(*samples)
    report = label(dataset, max_pixels=1_000_000, workers=workers)
    reasons = {Path(failure.filepath).name: failure.reason for failure in report.failures}
    assert set(reasons) == {name for name, reason in expected.items() if reason}
    assert all(expected[name] in reason for name, reason in reasons.items()), reasons
    done = {Path(s.filepath).name for s in dataset if s["masks"] is not None}
    assert done == expected.keys() - reasons.keys()
    Image.fromarray(draw_scene([LEFT, RIGHT])).save(tmp_path / "bad" / "missing.png")
    again = label(dataset, max_pixels=1_000_000, workers=workers)
    assert counts(again) == (1, len(done), len(reasons) - 1)


def test_an_image_behind_a_locked_folder(make_dataset, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    locked = tmp_path / "locked"
    locked.mkdir()
    Image.fromarray(draw_scene([LEFT])).save(locked / "a.png")
    locked.chmod(0)
    report = label(make_dataset({"filepath": str(locked / "a.png"), "detections": detections(BOXES[0])}))
    assert "Permission denied" in report.failures[0].reason


def test_bad_boxes_have_a_record_with_a_reason(make_dataset):
    nan, huge = float("nan"), 1e30
    bad = [[nan, 0, 0.1, 0.1], [float("inf"), 0, 0.1, 0.1], [0.5, 0.5, -0.2, -0.2], [0.5, 0.5, 0, 0], [3, 3, 1, 1], []]
    usable = [BOXES[0], [-0.2, -0.2, 0.9, 0.9], [-huge, -huge, 2 * huge, 2 * huge]]
    dataset = make_dataset({"detections": detections(*bad, *usable)}, {"detections": detections(*BOXES)})
    report = label(dataset)
    assert counts(report) == (2, 0, 0)
    assert report.failed_prompts == len(bad)
    assert not report.ok
    reasons = dataset.first().masks.detections
    assert [d.failure is None for d in reasons] == [False] * len(bad) + [True] * len(usable)
    assert label(dataset).failed_prompts == len(bad)


def test_5000_prompts_in_an_image(make_dataset):
    """All but 40 have no area, which costs little."""
    boxes = [[0.5, 0.5, 0, 0]] * 4960 + [BOXES[0]] * 40
    dataset = make_dataset({"detections": detections(*boxes)})
    report = label(dataset)
    assert (report.masks, report.failed_prompts) == (40, 4960)
    assert len(set(dataset.values("masks.detections.id")[0])) == 5000


def test_labels_too_large_for_a_document_are_a_failure(make_dataset, monkeypatch):
    monkeypatch.setattr("fiftyone_mobilesam.sinks.dataset.MAX_DOCUMENT_BYTES", 2000)
    dataset = make_dataset({"detections": detections(*[BOXES[0]] * 20)}, {"detections": detections(BOXES[0])})
    report = label(dataset)
    assert counts(report) == (1, 0, 1)
    assert "output_dir" in report.failures[0].reason


def test_documents_the_database_refuses_are_failures(make_dataset):
    """14 MiB in another field leave no room for 5 MiB of masks."""
    attribute = "x" * 2**20
    boxes = detections(*[BOXES[0]] * 5, note=attribute)
    dataset = make_dataset({"detections": boxes, "ballast": "x" * 9 * 2**20}, {"detections": detections(BOXES[0])})
    report = label(dataset)
    assert counts(report) == (1, 0, 1)
    assert (
        "Resulting document after update is larger" in report.failures[0].reason or "BSON" in report.failures[0].reason
    )


def test_a_pickle_that_wants_to_run_code_is_refused(pair, tmp_path):
    import pickle

    class Malicious:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(CheckpointError):
        label(pair, weights=tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


def test_wrong_calls_say_so_before_the_first_image(pair):
    with pytest.raises(FieldError, match="detections"):
        label(pair, "boxes")
    with pytest.raises(ValueError, match="letters"):
        label(pair, job="no name!")
    for workers in (0, -3, "2"):
        with pytest.raises(ValueError, match="1 or more"):
            label(pair, workers=workers)
    with pytest.raises(TypeError, match="Load it"):
        fom.label(pair.name, "detections")
    with pytest.raises(FieldError, match="Use 'masks'"):
        label(pair, label_field="frames.masks")
    with pytest.raises(ValueError, match="whole number"):
        label(pair, max_pixels="10")
    with pytest.raises(ValueError, match="such as 'nightly_1'"):
        label(pair, job="nightly-1")
    with pytest.raises(TypeError, match="Check the spelling"):
        label(pair, clipp=False)
    assert not pair.list_runs()
