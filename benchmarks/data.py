"""Images, boxes and true masks: a COCO file's, or the demo's photographs with its boxes."""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
COCO50 = ROOT.parent / "shared" / "coco50"

# Path, boxes (N, 4) xyxy, and N true masks, or None where there is no truth.
Case = tuple[Path, np.ndarray, list[np.ndarray] | None]


def default_cases(limit: int) -> tuple[str, list[Case]]:
    """Return a name for the data and the cases: COCO images beside the checkout if there are any, else photographs."""
    if COCO50.is_dir():
        return "COCO", coco_cases(COCO50 / "instances.json", COCO50 / "images", limit)
    return "the demo's photographs", photograph_cases(limit)


def coco_cases(annotations: Path, images: Path, limit: int) -> list[Case]:
    """Return the images of a COCO file that have objects; crowds are left out."""
    from pycocotools.coco import COCO

    coco, cases = COCO(str(annotations)), []
    for record in coco.loadImgs(coco.getImgIds()):
        objects = coco.loadAnns(coco.getAnnIds(record["id"], iscrowd=False))
        if objects and len(cases) < limit:
            boxes = np.array([annotation["bbox"] for annotation in objects])
            boxes[:, 2:] += boxes[:, :2]
            cases.append((images / record["file_name"], boxes, [coco.annToMask(o).astype(bool) for o in objects]))
    return cases


def photograph_cases(limit: int) -> list[Case]:
    """Return the demo's photographs with the boxes of its prompts."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from demo_data import PROMPTS, photographs

    coco, cases = json.loads(PROMPTS.read_text()), []
    for record in coco["images"][:limit]:
        boxes = [a["bbox"] for a in coco["annotations"] if a["image_id"] == record["id"] and a.get("bbox")]
        if boxes:
            boxes = np.array(boxes, dtype=float)
            boxes[:, 2:] += boxes[:, :2]
            cases.append((photographs() / record["file_name"], boxes, None))
    return cases
