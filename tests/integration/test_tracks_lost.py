"""Objects that get lost on their way: hidden, elsewhere, or out of the image."""

import pytest
from PIL import Image
from scenes import LEFT, detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom


@pytest.fixture
def tracked(tmp_path, make_dataset):
    """Return what carries an object through images, given its ellipse in each or None: the dataset and the report."""

    def run(shapes):
        samples = []
        for number, shape in enumerate(shapes):
            path = tmp_path / f"view{number}.png"
            Image.fromarray(draw_scene([shape] if shape else [])).save(path)
            samples.append({"filepath": str(path)})
        samples[0]["boxes"] = detections(ellipse_box(*shapes[0]))
        dataset = make_dataset(*samples)
        return dataset, fom.label(dataset, "boxes", "masks", job="tracks", propagate=True)

    return run


def test_an_object_that_is_hidden_for_an_image_is_found_again(tracked):
    dataset, report = tracked([LEFT, LEFT, None, LEFT, LEFT])
    found = dataset.values("masks.detections")
    assert [len(labels) for labels in found] == [1, 1, 0, 1, 1]
    assert [where for where, _, _ in report.ended] == [dataset.values("id")[2]]
    assert len({label.instance_id for labels in found for label in labels}) == 1
    assert [label.track_confidence > 0.9 for labels in found for label in labels] == [True, True, False, False]


def test_an_object_that_jumps_is_found_by_its_looks(tracked):
    shapes = [((60, 70) if number == 0 else (230, 160 - 3 * number), (30, 40)) for number in range(4)]
    dataset, _ = tracked(shapes)
    for sample, shape in zip(dataset, shapes, strict=True):
        [label] = sample.masks.detections
        assert iou(full_mask(label), ellipse_mask(*shape)) > 0.9


def test_an_object_that_leaves_the_image_has_no_masks_any_more(tracked):
    dataset, report = tracked([((40 - 16 * number, 120), (30, 40)) for number in range(7)])
    assert [len(labels) for labels in dataset.values("masks.detections")][:3] == [1, 1, 1]
    assert dataset.last().masks.detections == []
    assert len(report.ended) == 1
