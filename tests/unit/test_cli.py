"""The command line: what goes to stdout, into files, and what the exit code says."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene, ellipse_mask

import mobilesam.cli
from mobilesam import SAM
from mobilesam.geometry import rle

BOX = "--box=40,50,140,190"
IOU = 0.95


@pytest.fixture
def folder(tmp_path):
    """Two pictures of the same scene."""
    path = tmp_path / "photos of ours"
    path.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(draw_scene([LEFT, RIGHT])).save(path / name, quality=95)
    return path


@pytest.fixture
def run(sam, monkeypatch, capsys):
    """Run a command on a model that is loaded once; returns exit code, stdout, stderr."""
    monkeypatch.setattr(mobilesam.cli, "_model", lambda args: SAM(sam))

    def call(*argv):
        try:
            code = mobilesam.cli.main([str(word) for word in argv])
        except SystemExit as exit:
            code = exit.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def test_json_on_stdout_and_nothing_else(run, folder):
    code, out, err = run("predict", folder, BOX, "--box", "195,40,285,160")
    assert code == 0
    found = json.loads(out)
    assert [len(image["objects"]) for image in found] == [2, 2]
    assert found[0]["path"].endswith("a.png")
    assert "2 masks" in err


def test_a_bad_image_costs_itself_and_is_named(run, folder):
    (folder / "aa.png").write_bytes(b"no image")
    code, out, err = run("predict", folder, BOX)
    assert code == 1
    assert len(json.loads(out)) == 2
    assert "aa.png" in err


def test_coco(run, folder, tmp_path):
    target = tmp_path / "masks.json"
    code, out, _ = run("predict", folder, BOX, "--format", "coco", "--out", target)
    assert (code, out) == (0, "")
    coco = json.loads(target.read_text())
    assert [annotation["image_id"] for annotation in coco["annotations"]] == [1, 2]
    mask = rle.decode(coco["annotations"][0]["segmentation"])
    assert overlap(mask, ellipse_mask(*LEFT)) > IOU
    ys, xs = np.nonzero(mask)
    x, y, width, height = coco["annotations"][0]["bbox"]
    assert (x, y, x + width, y + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_png_and_yolo(run, folder, tmp_path):
    for _ in range(2):  # again gives the same files, not longer ones
        assert run("predict", folder / "a.png", BOX, "--format", "yolo", "--out", tmp_path / "labels")[0] == 0
    [line] = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    values = [float(value) for value in line.split()]
    polygon = np.int32(np.reshape(values[1:], (-1, 2)) * (320, 240))
    drawn = cv2.fillPoly(np.zeros((240, 320), np.uint8), [polygon], 1).astype(bool)
    assert values[0] == 0
    assert overlap(drawn, ellipse_mask(*LEFT)) > IOU
    assert run("predict", folder / "a.png", BOX, "--format", "png", "--out", tmp_path / "masks")[0] == 0
    mask = np.asarray(Image.open(tmp_path / "masks" / "a_0.png")) > 0
    assert overlap(mask, ellipse_mask(*LEFT)) > IOU


def test_points_pictures_and_one_object(run, folder, tmp_path):
    code, out, _ = run("predict", folder / "a.png", "--point", "90,120", "--point", "240,100", "--format", "json")
    assert [row["class"] for row in json.loads(out)[0]["objects"]] == [0, 1]
    arguments = "--point=90,120", "--point=240,100", "--label=1", "--label=0", "--one-object"
    code, out, _ = run("predict", folder / "a.png", *arguments, "--save", tmp_path / "out.png")
    assert (code, out) == (0, "")
    assert Image.open(tmp_path / "out.png").size == (320, 240)


def test_pictures_never_replace_images_or_each_other(run, folder, tmp_path, monkeypatch):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert run("predict", folder, BOX, "--save", tmp_path / "new")[0] == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["results_a.png", "results_b.png"]
    monkeypatch.chdir(folder)
    assert run("predict", "source=a.png", "bboxes=[40,50,140,190]", "save=True")[0] == 0
    assert run("predict", folder / "[ab].*", BOX, "--save", folder)[0] == 0
    assert {path: path.read_bytes() for path in before} == before
    code, _, err = run("predict", folder / "[ab].*", BOX, "--save", tmp_path / "one.png")
    assert code == 1
    assert "another image of this run" in err
    (folder / "a.jpg").write_bytes((folder / "b.jpg").read_bytes())
    code, _, err = run("predict", folder / "a.*", BOX, "--format", "yolo", "--out", tmp_path / "labels")
    assert code == 1
    assert "a.txt is there from another image" in err


def test_a_box_may_start_left_of_the_image(run, folder):
    _, found, _ = run("predict", folder / "a.png", "--box", "-3,50,140,190")
    assert len(json.loads(found)[0]["objects"]) == 1
    assert found == run("predict", folder / "a.png", "--box=-3,50,140,190")[1]


def test_the_folder_of_the_output_is_made_before_the_first_image(run, folder, tmp_path):
    target = tmp_path / "new" / "masks.json"
    assert run("predict", folder / "a.png", BOX, "--out", target)[0] == 0
    assert len(json.loads(target.read_text())) == 1
    (tmp_path / "file").write_text("")
    code, out, err = run("predict", folder / "a.png", BOX, "--out", tmp_path / "file" / "masks.json")
    assert (code, out) == (2, "")
    assert "a.png: " not in err  # nothing was computed in vain


def test_a_suffix_that_is_no_images_is_an_error(run, folder, tmp_path):
    code, _, err = run("predict", folder / "a.png", BOX, "--save", tmp_path / "out.txt")
    assert code == 1
    assert "must end in .png" in err


def test_ultralytics_style(run, folder):
    expected = run("predict", folder / "a.png", BOX, "--box=195,40,285,160")[1]
    source = f"source={folder / 'a.png'}"
    assert run("predict", source, "bboxes=[[40,50,140,190],[195,40,285,160]]")[1] == expected
    code, out, err = run("predict", source, "boxes=[40,50,140,190]")
    assert (code, out) == (2, "")
    assert "boxes= is not known here. Known: source, save, bboxes" in err
    assert run("predict", source, "bboxes=here")[0] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict"], "source"),
        (["predict", "x.png"], "--box or --point"),
        (["predict", "x.png", "--box", "1,2,3"], "4 numbers"),
        (["predict", "missing/*.png", BOX], "missing"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_exit_code_2(run, words, said):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert said in err


def test_a_missing_file_is_named(run, tmp_path):
    code, out, err = run("predict", tmp_path / "none.png", BOX)
    assert (code, json.loads(out)) == (1, [])
    assert "none.png" in err


def test_everything(run, folder):
    code, out, _ = run("everything", folder / "a.png", "--points-per-side", "4", "--format", "coco")
    masks = [rle.decode(annotation["segmentation"]) for annotation in json.loads(out)["annotations"]]
    assert code == 0
    assert max(overlap(mask, ellipse_mask(*LEFT)) for mask in masks) > IOU


def test_export(run, tmp_path):
    code, out, _ = run("export", "--format", "torchscript", "--out", tmp_path / "files")
    assert code == 0
    assert [line.rsplit("/", 1)[-1] for line in out.splitlines()] == ["encoder.torchscript", "decoder.torchscript"]


def test_info_and_help_in_a_process_of_their_own():
    info = subprocess.run([sys.executable, "-m", "mobilesam", "info"], capture_output=True, text=True, check=True)
    assert "self-test passed" in info.stdout
    script = "import sys, mobilesam.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "everything" in shown
    assert shown.endswith("False\n")  # help needs no torch
