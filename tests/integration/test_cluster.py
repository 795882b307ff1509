"""Ray Data's actors make the records of a plain run, a killed actor included. Takes some minutes."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import LEFT, draw_scene

from fiftyone_mobilesam import label_coco
from fiftyone_mobilesam.cluster import (
    label_manifest,
    merge_coco,
    write_coco_manifest,
)
from fiftyone_mobilesam.engine.item import Item
from fiftyone_mobilesam.engine.reader import Reader
from fiftyone_mobilesam.options import MaskOptions
from fiftyone_mobilesam.sinks.shards import check_note, note_of, read_shards

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mobilesam[ray]'")
parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install 'mobilesam[ray]'")
fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'mobilesam[ray]'")
psutil = pytest.importorskip("psutil", reason="psutil, with which an actor is found and killed, is not installed")

ROOT = Path(__file__).parents[2]
SETTINGS = {"device": "cpu", "verify": False}


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT), "FIFTYONE_DATABASE_URI": "mongodb://nowhere"}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def coco(tmp_path):
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for i in range(12):
        centre = rng.uniform(80, 160, 2).tolist()
        Image.fromarray(draw_scene([(centre, (50, 40))])).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 320, "height": 240})
        box = [centre[0] - 50, centre[1] - 40, 100, 80]
        annotations.append({"id": i, "image_id": i, "category_id": 1, "bbox": box})
    annotations.append({"id": 100, "image_id": 3, "category_id": 1, "bbox": [0, 0, -1, 5]})
    images[5]["file_name"] = "missing.png"
    path = tmp_path / "in.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}))
    return path


def kill_a_worker(shards, killed):
    """Kill an actor as soon as the first shard is there."""
    while not list(shards.glob("*.parquet")):
        time.sleep(0.02)
    for process in psutil.process_iter(["cmdline"]):
        if any("MapWorker" in part for part in process.info["cmdline"] or ()):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(len(list(shards.glob("*.parquet"))))
            return


def check_records_are_those_of_a_plain_run(coco, images, folder, *, images_per_shard):
    """Run both, one of two actors being killed after the first shard, and compare; return the report."""
    label_coco(coco, images, folder / "plain.json", progress=False, **SETTINGS)
    count = write_coco_manifest(coco, images, folder / "manifest.parquet", images_per_shard=images_per_shard)
    killed = []
    killer = threading.Thread(target=kill_a_worker, args=(folder / "ray" / "shards", killed), daemon=True)
    killer.start()
    assert label_manifest(folder / "manifest.parquet", folder / "ray", workers=2, **SETTINGS) == count
    killer.join()
    assert killed == [1]  # shards that were there
    report = merge_coco(coco, folder / "ray", folder / "ray.json")
    plain, merged = (json.loads((folder / name).read_text()) for name in ("plain.json", "ray.json"))
    for a, b in zip(plain["annotations"], merged["annotations"], strict=True):
        if a["failure"] is not None and "missing.png" in a["failure"]:
            a["failure"] = b["failure"] = None
        told = ("predicted_iou", "stability_score", "mask_quality")
        assert {**b, **{name: a[name] for name in told}} == a
        assert b["predicted_iou"] == pytest.approx(a["predicted_iou"], abs=1e-5)
        assert b["mask_quality"] == pytest.approx(a["mask_quality"], abs=1e-4)
        assert b["stability_score"] == pytest.approx(a["stability_score"], abs=1e-5)
    return report


def test_coco_images_with_two_actors_of_which_one_is_killed(cluster, coco50, tmp_path, soak):
    """All 50 images with `--soak`, else the first 8."""
    coco = json.loads((coco50 / "instances.json").read_text())
    images = coco["images"][: None if soak else 8]
    ids = {image["id"] for image in images}
    annotations = [annotation for annotation in coco["annotations"] if annotation["image_id"] in ids]
    path = tmp_path / "in.json"
    path.write_text(json.dumps({**coco, "images": images, "annotations": annotations}))
    report = check_records_are_those_of_a_plain_run(path, coco50 / "images", tmp_path, images_per_shard=3)
    assert (report.prompts, report.masks) == (len(annotations), len(annotations))


def test_actors_make_what_a_plain_run_makes_though_one_is_killed(cluster, coco):
    folder = coco.parent
    assert check_records_are_those_of_a_plain_run(coco, folder, folder, images_per_shard=2).failed_prompts == 2

    # Again: what is missing is done, and nothing else. Other options want another folder.
    assert label_manifest(folder / "manifest.parquet", folder / "ray", **SETTINGS) == 1  # the image that is missing
    shards = sorted((folder / "ray" / "shards").iterdir())
    assert len(shards) == 6
    shards[2].unlink()
    assert label_manifest(folder / "manifest.parquet", folder / "ray", **SETTINGS) == 3
    assert sorted((folder / "ray" / "shards").iterdir()) == shards
    assert len(list(read_shards(folder / "ray"))) == 12
    with pytest.raises(TypeError, match="clipp"):
        label_manifest(folder / "manifest.parquet", folder / "other", clipp=False, **SETTINGS)
    assert not (folder / "other").exists()
    with pytest.raises(ValueError, match="one set of options"):
        label_manifest(folder / "manifest.parquet", folder / "ray", clip=False, **SETTINGS)


def test_shards_of_an_earlier_version_go_on(tmp_path):
    from mobilesam.weights import resolve, sha256_of

    tmp_path.joinpath("options.json").write_text(
        json.dumps({"weights": sha256_of(resolve("mobile_sam.pt")), "clip": True, "cache_dir": None})
    )
    check_note(tmp_path, note_of("mobile_sam.pt", "fp32", MaskOptions(), cached=False), "mobile_sam.pt")
    with pytest.raises(ValueError, match="one set of options"):
        check_note(tmp_path, note_of("mobile_sam.pt", "fp32", MaskOptions(clip=False), cached=False), "mobile_sam.pt")


def test_images_lie_wherever_fsspec_reads(tmp_path):
    image = draw_scene([LEFT])

    def read(place):
        return Reader().read(Item(key="", image=place))

    Image.fromarray(image).save(tmp_path / "a.png")
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/a b.png", (tmp_path / "a.png").read_bytes())
    memory.pipe("/bucket/broken.png", b"no image")
    assert np.array_equal(read("memory://bucket/a b.png").pixels, image)
    assert np.array_equal(read(f"file://{tmp_path / 'a.png'}").pixels, image)
    assert "got 'memory://bucket/broken.png' of 8 bytes" in read("memory://bucket/broken.png").failure
    assert "memory://bucket/missing.png" in read("memory://bucket/missing.png").failure
    assert "nothing://a.png" in read("nothing://a.png").failure
