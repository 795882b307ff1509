"""Between two labels of an object each image is carried from both, and what is settled is written."""

import fiftyone as fo
import pytest
from PIL import Image
from scenes import detections, draw_scene, ellipse_box, ellipse_mask, full_mask, iou

import fiftyone_mobilesam as fom
from fiftyone_mobilesam.sources import sequences
from fiftyone_mobilesam.sources.sequences import settled_by

STEADY = (240, 120), (35, 45)


def jumping(place):
    """Return the ellipse of an object that moves far and grows between the first two images, so that it gets lost."""
    return ((50, 60), (12, 16)) if place == 0 else ((100 + 6 * place, 160), (30, 40))


@pytest.fixture
def scene(tmp_path, make_dataset) -> fo.Dataset:
    """Six images, whose objects have a label in the first; one that jumps has another in the last."""
    samples = []
    for place in range(6):
        path = tmp_path / f"{place}.png"
        Image.fromarray(draw_scene([jumping(place), STEADY])).save(path)
        samples.append({"filepath": str(path)})
    samples[0]["boxes"] = detections(ellipse_box(*jumping(0)), ellipse_box(*STEADY))
    for index, label in enumerate(samples[0]["boxes"].detections):
        label.index = index
    samples[5]["boxes"] = detections(ellipse_box(*jumping(5)), index=0)
    return make_dataset(*samples)


def propagate(samples, **keywords):
    return fom.label(samples, "boxes", "masks", job="tracks", propagate=True, **keywords)


def ious(dataset, index, shape):
    """Return the IoU with the true mask in each image, None where there is no mask."""
    found = []
    for place, labels in enumerate(dataset.values("masks.detections")):
        mine = [label for label in labels if label.index == index]
        found.append(iou(full_mask(mine[0]), ellipse_mask(*shape(place))) if mine else None)
    return found


def test_a_later_label_is_carried_back_to_where_forwards_failed(scene):
    without = scene.clone()
    last = without.last()
    last["boxes"] = None
    last.save()
    propagate(without)
    assert not any(found and found > 0.5 for found in ious(without, 0, jumping)[1:])
    report = propagate(scene)
    assert (report.tracks, report.done, report.failed) == (2, 6, 0)
    assert all(found > 0.9 for found in ious(scene, 0, jumping))
    assert all(found > 0.9 for found in ious(scene, 1, lambda place: STEADY))
    instances = [{label.index: label.instance_id for label in labels} for labels in scene.values("masks.detections")]
    assert all(found == instances[0] for found in instances)
    assert report.ended == []


def test_a_new_label_changes_what_lies_before_it_and_no_more(scene):
    last = scene.last()
    last["boxes"] = None
    last.save()
    ids = scene.values("id")
    third = scene[ids[2]]
    third["boxes"] = detections(ellipse_box(*jumping(2)), index=0)
    third.save()
    propagate(scene)
    before = scene.values("masks")
    fifth = scene[ids[4]]
    fifth["boxes"] = detections(ellipse_box(*jumping(4)), index=0)
    fifth.save()
    report = propagate(scene)
    assert (report.done, report.up_to_date) == (3, 3)  # from the image between the labels on
    assert [a == b for a, b in zip(before, scene.values("masks"), strict=True)][:3] == [True] * 3
    assert propagate(scene).up_to_date == 6


def test_a_label_reaches_so_far_back(scene, monkeypatch):
    monkeypatch.setattr(sequences, "REACH", 2)
    propagate(scene)
    found = ious(scene, 0, jumping)
    assert [at is not None and at > 0.9 for at in found] == [True, False, False, True, True, True]


def test_two_labels_of_one_object_in_an_image_are_two_records(scene):
    first = scene.first()
    first["boxes"] = detections(ellipse_box(*jumping(0)), ellipse_box(*STEADY), index=3)
    for label in first.boxes.detections:
        label.label = "a"
    first.save()
    report = propagate(scene)
    assert len(scene.first().masks.detections) == 2
    assert all(found > 0.9 for found in ious(scene, 3, lambda place: STEADY)[1:])  # the other one jumps, and is lost
    assert report.failed_prompts == 0


def test_processes_share_out_sequences(scene):
    other = scene.clone()
    for dataset in (scene, other):
        dataset.set_values("scene", ["x", "x", "x", "y", "y", "y"])
        dataset.set_values("place", list(range(6)))
    one = propagate(scene.group_by("scene", order_by="place"))
    two = propagate(other.group_by("scene", order_by="place"), workers=2, device="cpu")
    assert (one.done, one.tracks, one.masks) == (two.done, two.tracks, two.masks) == (6, 3, 5)
    for field in ("index", "prompt_id", "bounding_box"):
        path = f"masks.detections.{field}"
        assert scene.values(path) == other.values(path)
    assert propagate(other.group_by("scene", order_by="place"), workers=2, device="cpu").up_to_date == 6


def test_images_wait_for_the_next_label_of_an_object():
    assert settled_by([{"a"}, {}, {}, {"a"}, {}]) == [0, 3, 3, 3, 4]
    assert settled_by([{"a"}, {"b"}, {"a"}, {"b"}, {}]) == [0, 2, 3, 3, 4]
    assert settled_by([{"a"}, {"a"}, {}]) == [0, 1, 2]
    assert settled_by([{}, {}, {"a"}]) == [0, 1, 2]
    far = settled_by([{"a"}, *[{}] * 99, {"a"}])
    assert far[:52] == [*range(50), 100, 100]
    assert settled_by([]) == []
