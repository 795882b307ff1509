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
from scenes import draw_scene

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mobilesam[ray]'")
psutil = pytest.importorskip("psutil", reason="psutil, with which an actor is found and killed, is not installed")

from fiftyone_mobilesam import label_coco
from fiftyone_mobilesam.manifest import write_coco_manifest
from fiftyone_mobilesam.merge import merge_coco
from fiftyone_mobilesam.ray_job import label_manifest, read_shards

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
            killed.append(process.pid)
            return


def test_actors_make_what_a_plain_run_makes_though_one_is_killed(cluster, coco):
    folder = coco.parent
    label_coco(coco, folder, folder / "plain.json", progress=False, **SETTINGS)
    assert write_coco_manifest(coco, folder, folder / "manifest.parquet") == 12
    killed = []
    killer = threading.Thread(target=kill_a_worker, args=(folder / "ray" / "shards", killed), daemon=True)
    killer.start()
    label_manifest(folder / "manifest.parquet", folder / "ray", actors=2, images_per_shard=2, **SETTINGS)
    killer.join()
    assert len(killed) == 1
    report = merge_coco(coco, folder / "ray", folder / "ray.json")
    plain, merged = (json.loads((folder / name).read_text()) for name in ("plain.json", "ray.json"))
    assert report.failed == 2
    for a, b in zip(plain["annotations"], merged["annotations"], strict=True):
        if a["failure"] is not None and "missing.png" in a["failure"]:
            a["failure"] = b["failure"] = None
        assert {**b, "predicted_iou": a["predicted_iou"], "stability_score": a["stability_score"]} == a
        assert b["predicted_iou"] == pytest.approx(a["predicted_iou"], abs=1e-5)
        assert b["stability_score"] == pytest.approx(a["stability_score"], abs=1e-5)

    # Again: all is done, nothing is added. Other options want another folder.
    shards = sorted((folder / "ray" / "shards").iterdir())
    label_manifest(folder / "manifest.parquet", folder / "ray", actors=1, **SETTINGS)
    assert len(list(read_shards(folder / "ray"))) == 12
    assert sorted((folder / "ray" / "shards").iterdir()) == shards
    with pytest.raises(ValueError, match="one set of options"):
        label_manifest(folder / "manifest.parquet", folder / "ray", clip=False, **SETTINGS)
