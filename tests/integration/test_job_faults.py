"""A job that is broken again and again: process, worker, database, disk. Its records are an unbroken run's.

80 prompts and a few breaks at chosen moments; with `--soak` 240 and 30, some at random ones, which takes six minutes.
"""

import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pymongo
import pytest
from mongod import Mongod
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene

from fiftyone_mobilesam.database import patiently
from mobilesam.errors import JobError

ROOT = Path(__file__).parents[2]
BOXES = 10
# Kills of the process, of workers, of the database, and full disks: with `--soak`, and without.
BREAKS = {True: (11, 8, 8, 3), False: (2, 2, 2, 1)}
MAKE_DATASET = """
import sys, random
import fiftyone as fo
folder, images, boxes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dataset, chance = fo.Dataset("faults", persistent=True), random.Random(7)
for number in range(images):
    detections = [
        fo.Detection(label=chr(97 + i), bounding_box=[0.1 + 0.02 * i, 0.2, 0.3 + 0.3 * chance.random(), 0.5], index=i)
        for i in range(boxes)
    ]
    detections[number % boxes].bounding_box = [0.5, 0.5, 0.0, 0.0]  # has a record with a reason
    dataset.add_sample(fo.Sample(filepath=f"{folder}/{number}.png", detections=fo.Detections(detections=detections)))
"""


class Job:
    """The dataset, and the command that labels it."""

    def __init__(self, folder: Path, images: int):
        self.folder, self.images, self.chance = folder, images, random.Random(2026)
        (folder / "db").mkdir()
        self.database = Mongod(folder / "db")
        self.environment = {**os.environ, "FIFTYONE_DATABASE_URI": self.database.uri, "PYTHONPATH": str(ROOT)}
        self.environment["OMP_NUM_THREADS"] = "1"  # as a worker has: then sums are equal to the last bit
        for number in range(images):
            Image.fromarray(draw_scene([LEFT, RIGHT])[: 200 + number]).save(folder / f"{number}.png")
        make = [sys.executable, "-W", "ignore", "-c", MAKE_DATASET, str(folder), str(images), str(BOXES)]
        subprocess.run(make, env=self.environment, check=True)

    def samples(self) -> pymongo.collection.Collection:
        database = pymongo.MongoClient(self.database.uri)["fiftyone"]
        return database[database["datasets"].find_one({"name": "faults"})["sample_collection_name"]]

    def start(self, *options: str) -> subprocess.Popen:
        command = [sys.executable, "-W", "ignore", "-m", "fiftyone_mobilesam.cli", "label", "--dataset", "faults"]
        command += ["--prompt-field", "detections", "--job", "faults", *options]
        self.log = self.folder / "log"
        with open(self.log, "w") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=ROOT)

    def done(self) -> int:
        """Return the number of samples with labels."""
        return self.samples().count_documents({"masks.fingerprint": {"$exists": True}})

    def wait_for_progress(self, process: subprocess.Popen, samples: int) -> bool:
        """Wait until so many more samples are done, and a moment; say whether the job still runs."""
        goal = self.done() + samples
        while process.poll() is None and self.done() < goal:
            time.sleep(0.02)
        time.sleep(self.chance.uniform(0, 0.3))
        return process.poll() is None

    def finish(self, *options: str) -> None:
        """Run the command to its end: code 1, as some prompts have no mask."""
        process = self.start(*options)
        assert process.wait() == 1, self.log.read_text()
        assert "0 images failed" in self.log.read_text()

    def forget(self) -> None:
        self.samples().update_many({}, {"$unset": {"masks": 1}})

    def labels(self) -> dict:
        """Return all labels as they are in the database, masks as pixels, with one record a prompt checked."""
        found = {}
        for sample in self.samples().find():
            detections = sample["masks"]["detections"]
            prompts = [str(prompt["_id"]) for prompt in sample["detections"]["detections"]]
            assert [detection["prompt_id"] for detection in detections] == prompts
            found[sample["_id"]] = [_pixels(detection) for detection in detections]
        ids = [detection["_id"] for detections in found.values() for detection in detections]
        assert len(set(ids)) == len(ids) == self.images * BOXES
        return found


def _pixels(detection: dict) -> dict:
    """Put the pixels of a mask, from wherever it is, in place of its bytes or path."""
    path, packed = detection.pop("mask_path", None), detection.pop("mask", None)
    if path:
        assert Path(path).name == f"{detection['_id']}.png"
        pixels = np.asarray(Image.open(path))
        assert set(np.unique(pixels)) <= {0, 255}
        detection["pixels"] = (pixels > 0).tolist()
    elif packed:
        import zlib

        detection["pixels"] = np.load(io.BytesIO(zlib.decompress(packed))).astype(bool).tolist()
    return detection


@pytest.fixture(scope="module")
def job(tmp_path_factory, soak):
    job = Job(tmp_path_factory.mktemp("faults"), images=24 if soak else 8)
    yield job
    job.database.kill()


@pytest.fixture(scope="module")
def unbroken(job):
    job.forget()
    job.finish()
    return job.labels()


def test_a_killed_process_goes_on(job, unbroken, soak):
    job.forget()
    for number in range(BREAKS[soak][0]):
        process = job.start()
        if number % 2 == 1:  # while it starts
            time.sleep(job.chance.uniform(0, 6))
        else:
            job.wait_for_progress(process, job.chance.randint(1, 2))
        assert process.poll() is None, job.log.read_text()
        process.kill()
        process.wait()
    assert 0 < job.done() < job.images
    job.finish()
    assert job.labels() == unbroken


def test_a_dead_workers_share_is_taken_over(job, unbroken, soak):
    job.forget()
    process = job.start("--workers", "2")
    killed = 0
    while killed < BREAKS[soak][1]:
        if killed % 2:  # at work; else soon after the last one, while the next loads the model
            job.wait_for_progress(process, 1)
        time.sleep(job.chance.uniform(0, 1))
        assert process.poll() is None, f"{killed} killed: {job.log.read_text()}"
        if workers := _workers(process.pid):
            os.kill(job.chance.choice(workers), signal.SIGKILL)
            killed += 1
    assert process.wait() == 1, job.log.read_text()
    assert "0 images failed" in job.log.read_text(), job.log.read_text()
    assert len(re.findall("Worker .* died", job.log.read_text())) == BREAKS[soak][1]
    assert job.labels() == unbroken


def test_a_database_that_restarts_is_waited_for(job, unbroken, soak):
    job.forget()
    process = job.start()
    for number in range(BREAKS[soak][2]):  # the first when it is at work
        assert job.wait_for_progress(process, 1 if number == 0 else job.chance.randint(0, 1)), job.log.read_text()
        job.database.kill()
        time.sleep(job.chance.uniform(0, 2))
        job.database.start()
    assert process.wait() == 1, job.log.read_text()
    assert job.labels() == unbroken


def test_patience_has_an_end_and_waits_till_then(tmp_path, caplog):
    database = Mongod(tmp_path)
    things = pymongo.MongoClient(database.uri, serverSelectionTimeoutMS=500)["test"]["things"]
    assert patiently(things.find_one, wait=20) is None
    database.kill()
    with pytest.raises(JobError, match="got no answer for 1 s"):
        patiently(things.find_one, wait=1)
    restart = threading.Timer(1.0, database.start)
    restart.start()
    assert patiently(things.find_one, wait=60) is None
    assert "The database is back" in caplog.text
    restart.join()
    database.kill()


def test_a_full_disk_stops_with_a_message_and_the_job_goes_on_after(job, unbroken, tmp_path, soak):
    mounted = shutil.which("mount") and os.geteuid() == 0
    if not mounted or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]).returncode:
        pytest.skip("a small tmpfs cannot be mounted here: it wants root")
    try:
        job.forget()
        for number in range(BREAKS[soak][3]):
            process = job.start("--output-dir", str(tmp_path / "masks"))
            assert process.wait() == 1
            assert "No space left on device" in job.log.read_text()
            assert job.done() < job.images
            subprocess.run(["mount", "-o", f"remount,size={160 + 160 * number}k", tmp_path], check=True)
        subprocess.run(["mount", "-o", "remount,size=64m", tmp_path], check=True)
        job.finish("--output-dir", str(tmp_path / "masks"))
        assert job.labels() == unbroken
        files = {path.name for path in (tmp_path / "masks").rglob("*") if path.is_file()}
        wanted = {f"{d['_id']}.png" for detections in unbroken.values() for d in detections if "pixels" in d}
        assert files == wanted
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def _workers(pid: int) -> list[int]:
    """Return the ids of a process's workers, without the tracker that Python starts beside them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
