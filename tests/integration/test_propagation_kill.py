"""Tracks that are killed twice end with the records of an unbroken run; with `--soak` longer ones, four times."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pymongo
import pytest
from mongod import Mongod
from scenes import draw_scene

ROOT = Path(__file__).parents[2]
MAKE_DATASET = """
import sys
import fiftyone as fo
sample = fo.Sample(filepath=sys.argv[1])
boxes = [fo.Detection(label="a", bounding_box=[0.1, 0.1, 0.2, 0.4])]
boxes.append(fo.Detection(label="b", bounding_box=[0.6, 0.2, 0.25, 0.4]))
sample.frames[1] = fo.Frame(boxes=fo.Detections(detections=boxes))
failing = fo.Detection(label="c", bounding_box=[0.5, 0.5, 0.0, 0.1])
sample.frames[9] = fo.Frame(boxes=fo.Detections(detections=[failing]))
fo.Dataset("tracks", persistent=True).add_sample(sample)
"""


@pytest.fixture
def database(tmp_path):
    (tmp_path / "db").mkdir()
    database = Mongod(tmp_path / "db")
    yield database
    database.kill()


def test_a_killed_job_ends_with_the_records_of_an_unbroken_one(database, tmp_path, soak):
    path, last = tmp_path / "moving.mp4", 40 if soak else 18
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 5, (320, 240))
    for number in range(last):
        video.write(draw_scene([((64 + number, 72), (32, 48)), ((232, 96 + number), (40, 48))])[..., ::-1])
    video.release()
    environment = {**os.environ, "FIFTYONE_DATABASE_URI": database.uri, "PYTHONPATH": str(ROOT)}
    environment["OMP_NUM_THREADS"] = "1"  # then sums are equal to the last bit
    python = [sys.executable, "-W", "ignore"]
    subprocess.run([*python, "-c", MAKE_DATASET, str(path)], env=environment, check=True)
    client = pymongo.MongoClient(database.uri)["fiftyone"]
    frames = client[client["datasets"].find_one({"name": "tracks"})["frame_collection_name"]]

    def start() -> subprocess.Popen:
        command = [*python, "-m", "fiftyone_mobilesam.cli", "label", "--dataset", "tracks", "--propagate"]
        command += ["--prompt-field", "frames.boxes", "--label-field", "frames.masks"]
        with open(tmp_path / "log", "w") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=ROOT)

    def done() -> int:
        return frames.count_documents({"masks.fingerprint": {"$exists": True}})

    def labels() -> dict:
        return {frame["frame_number"]: frame["masks"] for frame in frames.find()}

    assert start().wait() == 1, (tmp_path / "log").read_text()  # one prompt has no mask
    unbroken = labels()
    assert [len(unbroken[number]["detections"]) for number in (1, 9, last)] == [2, 3, 2]
    frames.update_many({}, {"$unset": {"masks": 1}})
    chance = random.Random(2026)
    for number in range(4 if soak else 2):
        process = start()
        if number % 2:  # at work; else while it starts, or at the begin
            goal = min(done() + chance.randint(1, 4), last - 6)
            while process.poll() is None and done() < goal:
                time.sleep(0.02)
        else:
            time.sleep(chance.uniform(2, 10))
        assert process.poll() is None, (tmp_path / "log").read_text()
        process.kill()
        process.wait()
    assert 0 < done() < last
    assert start().wait() == 1, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert "2 tracks" in log
    assert labels() == unbroken
