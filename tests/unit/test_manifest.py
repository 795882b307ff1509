"""Rows of a manifest are those that version 0.1 wrote: shards made from them are found again."""

import json
import math

import fiftyone as fo
import pytest
from bson import ObjectId

from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.sources.manifest import dataset_row

IDS = iter(ObjectId(f"65000000000000000000000{i}") for i in range(1, 9))
BOXES = [[0.1, 0.2, 0.3, 0.4], [0.1, 0.1, math.nan, 0.1], [2, 2, 0.1, 0.1], [-0.1, 0.1, 0.5, 1.5]]
POINTS = [([(0.5, 0.5), (5, 5)], [1, 0]), ([(5, 5)], None), ([(0.5, 0.5), (0.5, 0.6)], [1]), ([(0.5, 0.5)], [7])]
BOXES = [fo.Detection(id=next(IDS), bounding_box=box) for box in BOXES]
POINTS = [fo.Keypoint(id=next(IDS), points=points, sam_labels=labels) for points, labels in POINTS]
# Written by version 0.1 for good and bad prompts.
ROWS = {
    "df43cf4b4251a437d5fa1c458ca020b2": {"prompt_field": "boxes"},
    "adca57a5e6599703032427f576dc6205": {"prompt_field": "points"},
    "449c002dc4ca99c90bcbfb14cf61fd8b": {"box_prompt_field": "boxes", "point_prompt_field": "points"},
}


class Sample(dict):
    id, filepath = "650000000000000000000009", "/a.jpg"


@pytest.mark.parametrize(("row_id", "fields"), ROWS.items())
def test_rows_are_those_of_an_earlier_version(row_id, fields):
    sample = Sample(boxes=fo.Detections(detections=BOXES), points=fo.Keypoints(keypoints=POINTS))
    row = dataset_row(sample, Options.parse(**fields))
    assert row["id"] == row_id
    prompts = json.loads(row["task"], parse_constant=pytest.fail)["prompts"]  # NaN is no JSON
    assert {len(prompt) for prompt in prompts if "failure" in prompt} == {1}
