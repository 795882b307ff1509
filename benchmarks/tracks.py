"""Masks of tracks against the truth, in clips that pan and zoom over photographs of COCO.

    python benchmarks/tracks.py --limit 20
    python benchmarks/tracks.py --limit 4 --save clips/

The truth is COCO's own masks, moved by the same affine maps as the pictures. Each object of at least 32 x 32 pixels in
the first frame has its true box there and nothing in the others. Beside it, for what the model can do at most: the true
box in every frame. A clip is an MPEG-4 video, so that its frames are no exact copies of the photograph.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from data import COCO50, ROOT, Case, coco_cases
from PIL import Image

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from mongod import Mongod  # noqa: E402

SIZE = (480, 360)  # width, height of a frame
LEAST_AREA, VISIBLE_AREA = 32 * 32, 100  # pixels of an object at the start, and later for it to count


def moves(size: tuple[int, int], frames: int) -> list[np.ndarray]:
    """Return the affine maps (2, 3) from a photograph's pixels to those of each frame."""
    found = []
    for step in np.linspace(0, 1, frames):
        window = 0.7 - 0.15 * step  # of the photograph: the camera goes in
        scale = max(SIZE[0] / (window * size[0]), SIZE[1] / (window * size[1]))
        centre = np.array(size) * [0.4 + 0.2 * step, 0.45 + 0.1 * step]
        found.append(np.column_stack([np.eye(2) * scale, np.array(SIZE) / 2 - scale * centre]))
    return found


def write_clip(case: Case, frames: int, path: Path) -> list[list[np.ndarray]]:
    """Write a clip and return its truth: for each frame the mask (H, W) bool of each object that counts."""
    photograph = np.asarray(Image.open(case[0]).convert("RGB"))[..., ::-1]
    maps = moves(photograph.shape[1::-1], frames)
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, SIZE)
    for move in maps:
        video.write(cv2.warpAffine(photograph, move, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE))
    video.release()
    truth = [[_warped(mask, move) for mask in case[2]] for move in maps]
    counts = [number for number, mask in enumerate(truth[0]) if mask.sum() >= LEAST_AREA]
    return [[masks[number] for number in counts] for masks in truth]


def _warped(mask: np.ndarray, move: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(mask.astype(np.float32), move, SIZE, flags=cv2.INTER_LINEAR) > 0.5


def add_clip(dataset: Any, path: Path, truth: list[list[np.ndarray]]) -> None:
    """Add a clip whose objects have boxes: in its first frame as `start`, in every frame as `every`."""
    import fiftyone as fo

    sample = fo.Sample(filepath=str(path))
    for number, masks in enumerate(truth, start=1):
        found = [_prompt(mask, place) for place, mask in enumerate(masks) if mask.sum() >= VISIBLE_AREA]
        sample.frames[number] = fo.Frame(every=fo.Detections(detections=found))
        if number == 1:
            sample.frames[number]["start"] = fo.Detections(detections=[label.copy() for label in found])
    dataset.add_sample(sample)


def _prompt(mask: np.ndarray, place: int) -> Any:
    import fiftyone as fo

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    box = [x / SIZE[0], y / SIZE[1], (right - x) / SIZE[0], (bottom - y) / SIZE[1]]
    return fo.Detection(label="object", bounding_box=[float(value) for value in box], index=place)


def scores(sample: Any, field: str, truth: list[list[np.ndarray]]) -> list[dict[int, float | None]]:
    """Return for each frame the IoU of each visible object by index; None where it has no mask."""
    found = []
    for number, masks in enumerate(truth, start=1):
        made = {label.index: _full(label) for label in sample.frames[number][field].detections}
        found.append(
            {
                place: None if place not in made else (made[place] & mask).sum() / (made[place] | mask).sum()
                for place, mask in enumerate(masks)
                if mask.sum() >= VISIBLE_AREA
            }
        )
    return found


def gone(sample: Any, field: str, truth: list[list[np.ndarray]]) -> int:
    """Return the number of masks of objects that are not visible any more."""
    frames = ((masks, sample.frames[number][field].detections) for number, masks in enumerate(truth, start=1))
    return sum(masks[label.index].sum() < VISIBLE_AREA for masks, labels in frames for label in labels)


def _full(label: Any) -> np.ndarray:
    import fiftyone as fo

    labels = fo.Detections(detections=[label] if label.mask is not None else [])
    return labels.to_segmentation(frame_size=SIZE, mask_targets={1: "object"}).mask == 1


def summary(found: list[list[dict[int, float | None]]]) -> dict[str, Any]:
    """Return mean IoUs over all visible objects, a lost one as 0, and how many are lost."""

    def mean(values: list[float | None]) -> dict[str, Any]:
        ious = [value or 0.0 for value in values]
        lost = sum(value is None for value in values)
        kept = [value for value in values if value is not None]
        return {"objects": len(values), "iou": np.mean(ious).round(4), "lost": lost, "iou_kept": np.mean(kept).round(4)}

    return {
        "all frames": mean([value for clip in found for frame in clip for value in frame.values()]),
        "first frame": mean([value for clip in found for value in clip[0].values()]),
        "last frame": mean([value for clip in found for value in clip[-1].values()]),
    }


def save_overlays(sample: Any, truth: list[list[np.ndarray]], path: Path) -> None:
    """Write a picture of the first, middle and last frame: masks filled, truth outlined."""
    video, pictures = cv2.VideoCapture(sample.filepath), []
    frames = [video.read()[1] for _ in truth]
    for place in (0, len(truth) // 2, len(truth) - 1):
        picture = frames[place].copy()
        for label in sample.frames[place + 1].tracks.detections:
            colour = np.array(cv2.applyColorMap(np.uint8([[37 * (label.index + 1) % 256]]), cv2.COLORMAP_HSV)[0, 0])
            mask = _full(label)
            picture[mask] = picture[mask] // 2 + colour // 2
        for mask in truth[place]:
            outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, (255, 255, 255), 1)
        pictures.append(picture)
    cv2.imwrite(str(path), np.hstack(pictures))


def measure(cases: list[Case], frames: int, folder: Path, save: Path | None, drift: dict | None) -> None:
    """Print the scores of tracks, and of boxes in every frame."""
    import fiftyone as fo

    import fiftyone_mobilesam as fom

    dataset, truths = fo.Dataset(), {}
    for number, case in enumerate(cases):
        path = folder / f"{number}.mp4"
        truth = write_clip(case, frames, path)
        if truth[0]:
            add_clip(dataset, path, truth)
            truths[str(path)] = truth
    common = {"device": "cpu", "cache_dir": folder / "embeddings"}  # each frame is encoded once
    report = fom.label(dataset, "frames.start", "frames.tracks", job="tracks", propagate=True, drift=drift, **common)
    print(report)
    fom.label(dataset, "frames.every", "frames.boxed", job="boxed", clip=False, **common)
    dataset.reload()
    for field in ("tracks", "boxed"):
        found = [scores(sample, field, truths[sample.filepath]) for sample in dataset]
        for which, row in summary(found).items():
            print(json.dumps({"masks": field, "frames": which, **row}), flush=True)
    print("masks of objects out of view:", sum(gone(sample, "tracks", truths[sample.filepath]) for sample in dataset))
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
        for sample in dataset:
            save_overlays(sample, truths[sample.filepath], save / f"{Path(sample.filepath).stem}.png")
    dataset.delete()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, default=COCO50 / "instances.json")
    parser.add_argument("--images", type=Path, default=COCO50 / "images")
    parser.add_argument("--limit", type=int, default=20, metavar="PHOTOGRAPHS")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--save", type=Path, metavar="DIR", help="write pictures of the first, middle and last frame")
    parser.add_argument("--drift", type=json.loads, metavar="JSON", help='such as {"min_confidence": 0.3}')
    args = parser.parse_args()
    os.environ |= {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DATABASE_VALIDATION": "false"}
    with tempfile.TemporaryDirectory() as database, tempfile.TemporaryDirectory() as folder:
        mongod = Mongod(Path(database))
        os.environ["FIFTYONE_DATABASE_URI"] = mongod.uri
        try:
            cases = coco_cases(args.coco, args.images, args.limit)
            measure(cases, args.frames, Path(folder), args.save, args.drift)
        finally:
            mongod.kill()


if __name__ == "__main__":
    main()
