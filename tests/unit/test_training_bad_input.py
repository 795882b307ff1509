"""Bad input of a training: a bad record costs itself and is written down; all else is said before it learns."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from scenes import LEFT, SIZE, draw_scene
from trained import CARD

from mobilesam import SAM, CheckpointError, build_sam_vit_t, load_model
from mobilesam.cli import main
from mobilesam.errors import NotEnoughTruthError
from mobilesam.quality.validation import load_truth
from mobilesam.training import train as trainings
from mobilesam.training.coco import coco_images
from mobilesam.training.train import Training
from mobilesam.weights import save_checkpoint

WIDTH, HEIGHT = SIZE
GOOD = {
    "image_id": 1,
    "category_id": 1,
    "bbox": [40, 50, 100, 140],
    "segmentation": [[40, 50, 140, 50, 140, 190, 40, 190]],
}
# What is wrong with a record, and what is said of it.
BAD = {
    "no box": ({"bbox": None}, r"bbox must be \[x, y, width, height\] in pixels, .*, got None\. Correct it"),
    "three numbers": ({"bbox": [1, 2, 3]}, r"bbox must be .*, got \[1, 2, 3\]\."),
    "inverted box": ({"bbox": [40, 50, -100, 140]}, r"with a width and height above 0, got \[40, 50, -100, 140\]\."),
    "no number": ({"bbox": [40, 50, float("nan"), 140]}, r"bbox must be .* got \[40, 50, nan, 140\]\."),
    "without end": ({"bbox": [40, 50, float("inf"), 140]}, r"box must be finite, got .*inf"),
    "outside": ({"bbox": [900, 900, 9, 9]}, r"box must overlap the image of 320 x 240 pixels, got \[900\.0, 900\.0"),
    "text": ({"segmentation": "abc"}, r"segmentation must be polygons or run lengths, got none that can be read"),
    "half a polygon": ({"segmentation": [[40, 50, 60]]}, r"segmentation must be "),
    "no polygon": ({"segmentation": []}, r"segmentation must "),
    "empty mask": (
        {"segmentation": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}},
        r"must have a pixel, got none",
    ),
    "other size": (
        {"segmentation": {"size": [10, 20], "counts": [0, 200]}},
        r"for an image of 320 x 240 pixels, as the file is once it is upright, got one for 20 x 10\. Export",
    ),
    "no such image": ({"image_id": 77}, r"image_id must be of an image in the file, got 77\. Add it"),
    "no image": ({"image_id": None}, r"image_id must be of an image in the file, got None"),
    "no id": ({"id": None}, r"An annotation must have an id, got none"),
}


def write_coco(folder, annotations, *, images=1, more=()):
    names = [f"{number}.png" for number in range(1, images + 1)]
    for name in names:
        Image.fromarray(draw_scene([LEFT])).save(folder / name)
    records = [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names, 1)]
    annotations = [{"id": i, **GOOD, **changed} for i, changed in enumerate(annotations, 1)]
    data = {"images": [*records, *more], "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "coco.json").write_text(json.dumps(data))
    return folder / "coco.json"


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_costs_itself_and_is_written_down(tmp_path, case):
    changed, said = BAD[case]
    failed = []
    [image] = coco_images(write_coco(tmp_path, [{}, changed, {}]), tmp_path, failed)
    assert len(image.objects) == 2
    [(where, reason)] = failed
    assert re.search(said, reason), reason
    assert re.search(r"annotation 2$|annotations\[1\]$", where)
    assert reason.endswith((".", "height]."))


def test_a_whole_image_and_what_hand_made_files_leave_out(tmp_path):
    whole = {"bbox": [0, 0, WIDTH, HEIGHT], "segmentation": [[0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]]}
    coco = write_coco(tmp_path, [whole, {"iscrowd": 1}, {"iscrowd": 0}])
    data = json.loads(coco.read_text())
    del data["annotations"][0]["category_id"]
    coco.write_text(json.dumps(data))
    failed = []
    [image] = coco_images(coco, tmp_path, failed)
    assert [mask.sum() for _, mask in image.objects] == [WIDTH * HEIGHT, 100 * 140]
    assert not failed


def test_bad_records_of_images_cost_themselves(tmp_path):
    more = (
        {"id": 1, "file_name": "2.png"},
        {"id": 8},
        {"file_name": "8.png"},
        "image",
        {"id": 9, "file_name": "9.png"},
    )
    coco, failed = write_coco(tmp_path, [{}, {"image_id": 9}], more=more), []
    [image] = coco_images(coco, tmp_path, failed)
    assert image.name == "1.png"
    named = {where.removeprefix(f"{coco}, "): reason for where, reason in failed}
    assert list(named)[:4] == [f"images[{number}]" for number in range(1, 5)]
    assert "got 1 again" in named["images[1]"]
    assert "must have an id and a file_name" in named["images[2]"]
    assert "which does not exist" in named[str(tmp_path / "9.png")]
    assert len(load_truth(coco).dataset["images"]) == 2  # without a list for what is wrong, too


def test_what_could_not_be_used_is_said_when_too_little_is_left(sam, tmp_path, capsys):
    coco = write_coco(tmp_path, [{"bbox": None} for _ in range(7)])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(NotEnoughTruthError) as caught:
        SAM(sam, verify=False).train(coco, tmp_path, out=tmp_path / "new" / "er" / "ours.pt", progress=False)
    head, *lines = str(caught.value).split("\n")
    assert head.endswith("got 0 of 0. Correct or draw more masks, and train again.")
    assert lines[0].startswith(f"- Left out: {tmp_path / '1.png'}, annotation 1: bbox must be ")
    assert len(lines) == 6
    assert lines[-1] == "- ... and 2 more"
    coco = write_coco(tmp_path, [{} for _ in range(12)])
    out = tmp_path / "new" / "ours.pt"
    assert main(["train", "--coco", str(coco), "--images", str(tmp_path), "--out", str(out), "--device", "cpu"]) == 2
    assert "of 2 images or more, got 12 of 1." in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_training_says_what_it_left_out():
    failed = [(f"{number}.png", "image must be a file.") for number in range(7)]
    lines = str(Training(True, Path("ours.pt"), CARD, failed)).split("\n")
    assert lines[-6:-4] == ["- Left out: 0.png: image must be a file.", "- Left out: 1.png: image must be a file."]
    assert lines[-1] == "- ... and 2 more"


def test_the_command_says_all_that_was_left_out(monkeypatch, capsys):
    failed = [(f"{number}.png", "image must be a file.") for number in range(7)]
    monkeypatch.setattr(SAM, "train", lambda *_, **__: Training(True, Path("ours.pt"), CARD, failed))
    assert main(["train", "--coco", "coco.json", "--images", ".", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# ours.pt\n")
    assert "Left out" not in out
    assert [line for line in err.splitlines() if "image must" in line] == [": ".join(one) for one in failed]


@pytest.mark.parametrize("words", [["--passes", "0"], ["--limit", "-1"], ["--passes", "many"]])
def test_the_command_wants_whole_numbers(words, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--coco", "coco.json", "--images", ".", *words])
    assert f"a whole number from 1 is wanted, got '{words[1]}'" in capsys.readouterr().err


@pytest.fixture
def never_learns(monkeypatch):
    """Encoding an image is a failure: what is wrong must be said before."""

    def encoded(*_, **__):
        raise AssertionError("an image was encoded")

    monkeypatch.setattr(trainings, "encoded", encoded)


# What there is beforehand, `out`, and what is said of it.
NO_PLACE = {
    "a card": (
        "ours.md",
        "ours.pt",
        CheckpointError,
        r"got '.*ours\.md', which is there\. Name another, or pass overw",
    ),
    "weights": ("ours.pt", "ours.pt", CheckpointError, r"must be a new file, got '.*ours\.pt', which is there"),
    "a folder": ("ours.pt/x", "ours.pt", CheckpointError, r"must be a file, got '.*ours\.pt', which is a folder"),
    "in a file": (
        "x",
        "x/ours.pt",
        OSError,
        r"in a folder that can be written to, got .*ours\.pt' \(Not a directory\)",
    ),
}


@pytest.mark.parametrize("case", NO_PLACE)
def test_where_nothing_can_be_written_is_said_before_anything_is_learnt(sam, tmp_path, never_learns, case):
    there, out, kind, said = NO_PLACE[case]
    coco = write_coco(tmp_path, [{} for _ in range(10)])
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=said):
        SAM(sam, verify=False).train(coco, tmp_path, out=tmp_path / out, progress=False, overwrite=case == "a folder")
    assert (tmp_path / there).read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_leave_to_write_is_said_before_anything_is_learnt(sam, tmp_path, never_learns, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    coco = write_coco(tmp_path, [{}])
    with pytest.raises(OSError, match=r"can be written to, got .*ours\.pt' \(Permission denied\)\. Name another\."):
        SAM(sam, verify=False).train(coco, tmp_path, out=tmp_path / "new" / "ours.pt", progress=False)
    assert not (tmp_path / "new").exists()


def test_weights_that_are_none_are_refused(sam, tmp_path):
    changed = {name: value.clone() for name, value in sam.state_dict().items()}
    changed["mask_decoder.iou_token.weight"][:] = torch.nan
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "text.safetensors").write_text("weights")
    torch.save({"layer": torch.zeros(3)}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    save_checkpoint(changed, tmp_path / "nan.safetensors")
    (tmp_path / "folder.pt").mkdir()
    said = {
        "text.pt": "cannot be read",
        "text.safetensors": "cannot be read",
        "foreign.pt": "must be MobileSAM's",
        "list.pt": "got list in",
        "nan.safetensors": "not a trained MobileSAM",
        "folder.pt": "which is a folder",
        "missing.pt": "does not exist",
    }
    for name, expected in said.items():
        with pytest.raises(CheckpointError, match=expected):
            load_model(tmp_path / name, device="cpu")
    for note in ("a card of somebody else", '["a list"]'):
        save_checkpoint(sam.state_dict(), tmp_path / "noted.safetensors")
        save_file(load_file(tmp_path / "noted.safetensors"), tmp_path / "noted.safetensors", {"model_card": note})
        assert not build_sam_vit_t(tmp_path / "noted.safetensors").fine_tuned
