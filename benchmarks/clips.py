"""Tracks through clips with true masks: region similarity J, and whether the confidence tells where they are wrong.

    python benchmarks/clips.py ../shared/data/davis16_val --cache cache/ --json out.json
    python benchmarks/clips.py ../shared/data/davis16_val --cache cache/ --fit

The folder holds `images/` and `instances.json` in COCO's format, each image with `video` and `frame`, of one object
each. The object has its true box in the first frame. Beside it, for what the model can do: a true box in every frame.
Every clip is also run backwards and in larger steps, where tracks do go wrong: the confidence is judged on all of them.
"A label every 20th" has the object's true box in each 20th frame, and carries it to the frames between from both sides.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_masks
from scipy.stats import spearmanr

from mobilesam import EmbeddingCache, Prompt, SamPredictor, load_model
from mobilesam import propagation as tracks
from mobilesam.geometry import ImageEmbedding, tight_region
from mobilesam.images import read_image
from mobilesam.motion import Motion
from mobilesam.quality.metrics import mask_iou

WAYS = {"forwards": slice(None), "backwards": slice(None, None, -1), "every 2nd": slice(None, None, 2)}
WAYS["every 3rd, backwards"] = slice(None, None, -3)
EVERY = 20
BAD, DOUBTED = 0.3, 0.7  # true IoU of a bad mask; the confidence below which docs say to look
STRENGTH = 20.0  # of the ridge regression


def load(folder: Path, frames: int) -> dict[str, list[tuple[Path, np.ndarray]]]:
    """Return the path and the true mask (H, W) bool of each frame, by clip."""
    data = json.loads((folder / "instances.json").read_text())
    truth, clips = {one["image_id"]: one["segmentation"] for one in data["annotations"]}, defaultdict(list)
    for image in sorted(data["images"], key=lambda image: (image["video"], image["frame"])):
        size = image["height"], image["width"]
        mask = np.zeros(size, bool)
        if image["id"] in truth:
            rle = coco_masks.frPyObjects(truth[image["id"]], *size)
            mask = coco_masks.decode(coco_masks.merge(rle) if isinstance(rle, list) else rle).astype(bool)
        clips[image["video"]].append((folder / "images" / image["file_name"], mask))
    return {name: found[:frames] for name, found in clips.items()}


def follow(predictor: SamPredictor, frames: list[tuple[ImageEmbedding, np.ndarray]]) -> list[dict]:
    """Return a row for each frame after the first."""
    before, true = frames[0]
    [track] = tracks.start_tracks(predictor, [Prompt(box=np.array(tight_region(true), float))], before)
    rows = []
    for image, true in frames[1:]:
        start = time.perf_counter()
        [track] = tracks.continue_tracks(predictor, [track], Motion(before, image), image)
        seconds, before = time.perf_counter() - start, image
        iou = mask_iou(track.crop.full(image.original_hw), true)
        told = {"iou": iou, "lost": track.lost is not None, "confidence": track.confidence, "ms": 1000 * seconds}
        rows.append(told | {"signals": track.signals})
    return rows


def labelled(predictor: SamPredictor, clip: list[tuple[Path, np.ndarray]]) -> list[float]:
    """Return the J of each frame after the first, of a job's tracker that gets a true box in every 20th frame."""
    import fiftyone as fo

    from fiftyone_mobilesam.options import Options
    from fiftyone_mobilesam.tracks import Tracker

    tracker = Tracker(predictor, Options(prompt_field="boxes"), tracks.Drift())
    for place, (path, true) in enumerate(clip):
        (height, width), labels = true.shape, None
        if place % EVERY == 0 and true.any():
            x0, y0, x1, y1 = tight_region(true)
            box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
            labels = fo.Detections(detections=[fo.Detection(label="object", bounding_box=box, index=0)])
        tracker.add(str(place), labels, read_image(path))
    found = []
    for held, (_, true) in zip(tracker.held, clip, strict=True):
        [track] = held.tracks.values()
        found.append(0.0 if track.carried.lost else mask_iou(track.carried.crop.full(true.shape), true))
    return found[1:]


def boxed(predictor: SamPredictor, frames: list[tuple[ImageEmbedding, np.ndarray]]) -> list[float]:
    """Return the J of a true box in every frame after the first, where the object is there."""
    found = []
    for image, true in frames[1:]:
        if true.any():
            [[crop]] = predictor.predict_batch([Prompt(box=np.array(tight_region(true), float))], image=image)
            found.append(mask_iou(crop.full(image.original_hw), true))
    return found


def further(predictor: SamPredictor, frames: list[tuple[ImageEmbedding, np.ndarray]]) -> float:
    """Return the milliseconds a frame that each further object takes, here the same one four times more."""
    seconds: dict[int, list[float]] = defaultdict(list)
    (before, true), *later = frames[:8]
    found = {count: [Prompt(box=np.array(tight_region(true), float))] * count for count in (1, 5)}
    found = {count: tracks.start_tracks(predictor, prompts, before) for count, prompts in found.items()}
    for image, _ in later:
        motion, before = Motion(before, image), image
        for count, going in found.items():
            start = time.perf_counter()
            found[count] = tracks.continue_tracks(predictor, going, motion, image)
            seconds[count].append(time.perf_counter() - start)
    return 1000 * float(np.median(seconds[5]) - np.median(seconds[1])) / 4


def mean(values: list[float]) -> float:
    """Return the mean to three places."""
    return round(float(np.mean(values)), 3)


def fit(rows: list[dict]) -> dict[str, list[float]]:
    """Return the weights of the signals and what is added, by ridge regression of the true IoU."""
    x, y = np.array([row["signals"] for row in rows]), np.array([row["iou"] for row in rows])
    middle, scale = x.mean(0), x.std(0)
    z = (x - middle) / scale
    weights = np.linalg.solve(z.T @ z + STRENGTH * np.eye(x.shape[1]), z.T @ (y - y.mean())) / scale
    return {"weights": weights.round(2).tolist(), "offset": [round(float(y.mean() - weights @ middle), 2)]}


def judged(rows: list[dict]) -> dict[str, float]:
    """Return how well the confidence tells good frames from bad ones."""
    told, true = np.array([row["confidence"] for row in rows]), np.array([row["iou"] for row in rows])
    return {
        "frames": len(rows),
        "spearman": round(float(spearmanr(told, true).statistic), 3),
        "bad": int((true < BAD).sum()),
        "bad that are doubted": round(float((told[true < BAD] < DOUBTED).mean()), 3) if (true < BAD).any() else None,
        "others that are doubted": round(float((told[true >= BAD] < DOUBTED).mean()), 3),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=1000, help="of a clip, at most")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir(), "clip-embeddings"))
    parser.add_argument("--fit", action="store_true", help="fit the confidence again, and print its weights")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    predictor = SamPredictor(load_model(), fast=True, cache=EmbeddingCache(args.cache))
    result, everything, clips = {}, [], load(args.folder, args.frames)
    for name, clip in clips.items():
        frames = [(predictor.encode_images([read_image(path)])[0], true) for path, true in clip]
        rows = {way: follow(predictor, frames[part]) for way, part in WAYS.items()}
        everything += [row | {"way": way} for way, of_way in rows.items() for row in of_way]
        result[name] = {way: mean([row["iou"] * (not row["lost"]) for row in of_way]) for way, of_way in rows.items()}
        result[name] |= {f"a label every {EVERY}th": mean(labelled(predictor, clip))}
        result[name] |= {"true boxes": mean(boxed(predictor, frames))}
        result[name] |= {"ms each further object": round(further(predictor, frames))}
        result[name] |= {"ms a frame": round(float(np.median([row["ms"] for row in rows["forwards"]])))}
        print(json.dumps({name: result[name]}), flush=True)
    result["confidence"] = judged(everything)
    result["confidence, forwards"] = judged([row for row in everything if row["way"] == "forwards"])
    for column in ("forwards", f"a label every {EVERY}th", "true boxes"):
        result[f"mean J, {column}"] = mean([result[name][column] for name in clips])
    print(json.dumps({name: value for name, value in result.items() if name not in clips}))
    if args.fit:
        print(json.dumps(fit([row for row in everything if not row["lost"]])))
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
