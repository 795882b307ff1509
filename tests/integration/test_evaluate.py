"""Masks beside true ones: pairs by prompt or overlap, figures computed by hand, written on the masks and only there."""

import json

import cv2
import fiftyone as fo
import numpy as np
import pytest
from job_calls import label
from operator_calls import contents
from PIL import Image
from scenes import LEFT, RIGHT, draw_scene, ellipse_box, ellipse_mask, full_mask, iou, true_ellipse

import fiftyone_mobilesam as fom
from fiftyone_mobilesam import cli
from fiftyone_mobilesam.labels import relative_box
from mobilesam import FieldError

HW = (240, 320)


def mask_of(region, **attributes):
    """A full mask on a region of whole pixels (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = region
    pixels = np.ones((y1 - y0, x1 - x0), dtype=bool)
    box = relative_box(region, original_hw=HW)
    return fo.Detection(**{"label": "a", "bounding_box": box, "mask": pixels, "confidence": 0.9, **attributes})


def field(*labels):
    return fo.Detections(detections=list(labels))


@pytest.fixture
def by_hand(make_dataset):
    """An IoU of 1/3, one of 1, a mask of nothing, a label without a mask, a true mask that is missed."""
    truth = field(mask_of((10, 10, 30, 30)), mask_of((100, 100, 140, 140)), mask_of((200, 10, 220, 30)))
    masks = field(
        mask_of((20, 10, 40, 30), predicted_iou=0.5),
        mask_of((100, 100, 140, 140), predicted_iou=0.9),
        mask_of((250, 200, 260, 210)),
        fo.Detection(label="a", bounding_box=[0, 0, 0.1, 0.1], failure="outside"),
    )
    return make_dataset({"truth": truth, "masks": masks}, {"masks": field(mask_of((0, 0, 9, 9)))})


def test_figures_are_those_computed_by_hand(by_hand):
    before = by_hand.first().truth.to_dict()
    found = fom.evaluate(by_hand, "masks", "truth")
    assert [row["iou"] for row in found.rows] == pytest.approx([1 / 3, 1, 0])
    assert [row["size"] for row in found.rows] == ["small", "medium", "small"]
    assert (found.missed, len(found.failed)) == (1, 1)
    assert "outside" in found.failed[0][1]
    assert found.mean() == pytest.approx(4 / 9)
    assert found.rows[1]["boundary_iou"] == 1
    assert 0 < found.rows[0]["boundary_iou"] < 1
    by_hand.reload()
    assert by_hand.first().truth.to_dict() == before
    written = by_hand.values("masks.detections.true_iou")
    assert written == [pytest.approx([1 / 3, 1, 0, None]), [None]]  # the second image has no true masks
    assert by_hand.bounds("masks.detections.true_iou") == (0, 1)
    assert "| small | 2 | 0.167 |" in found.table()
    assert found.as_dict()["missed"] == 1


def test_a_prompt_in_common_comes_before_overlap(make_dataset):
    truths = [mask_of((10, 10, 30, 30)), mask_of((100, 100, 140, 140), prompt_id="elsewhere")]
    masks = [mask_of((50, 50, 60, 60), prompt_id=truths[0].id), mask_of((10, 10, 30, 30), prompt_id="elsewhere")]
    dataset = make_dataset({"truth": field(*truths), "masks": field(*masks)})
    found = fom.evaluate(dataset, "masks", "truth")
    assert [row["ground_truth_id"] for row in found.rows] == [true.id for true in truths]
    assert ([row["iou"] for row in found.rows], found.missed) == ([0, 0], 0)


def test_masks_of_the_model(model, make_dataset):
    dataset = make_dataset({"truth": field(true_ellipse(LEFT), true_ellipse(RIGHT))})
    dataset.apply_model(model, label_field="masks", prompt_field="truth")
    found = fom.evaluate(dataset, "masks", "truth")
    masks = [full_mask(mask) for mask in dataset.first().masks.detections]
    expected = [iou(mask, ellipse_mask(*ellipse)) for mask, ellipse in zip(masks, (LEFT, RIGHT), strict=True)]
    assert [row["iou"] for row in found.rows] == pytest.approx(expected)
    assert found.ap["AP"] > 0.9


def test_a_job_takes_nothing_of_it_for_a_change(make_dataset):
    """In place the masks are the prompts, and copies of a judged mask are not judged."""
    boxes = field(*(fo.Detection(label="a", bounding_box=ellipse_box(*ellipse)) for ellipse in (LEFT, RIGHT)))
    dataset = make_dataset({"boxes": boxes, "truth": field(true_ellipse(LEFT), true_ellipse(RIGHT))})
    label(dataset, "boxes", "boxes", in_place=True)
    fom.evaluate(dataset, "boxes", "truth")
    before = contents(dataset)
    assert before[0]["boxes"]["detections"][0]["true_iou"] > 0.9
    assert label(dataset, "boxes", "boxes", in_place=True).done == 0
    assert contents(dataset) == before
    label(dataset, "boxes", "copies", job="copies")
    assert not dataset.first().copies.detections[0].has_attribute("true_iou")
    label(dataset, "boxes", "boxes", in_place=True, multimask_output=True)  # another mask: what was measured is gone
    dataset.reload()
    assert dataset.values("boxes.detections.true_iou") == [[None, None]]


def test_an_image_that_is_gone_is_named_and_wrong_fields_are_errors(by_hand, tmp_path):
    with pytest.raises(FieldError, match="ground_truth_field must be a field of Detections"):
        fom.evaluate(by_hand, "masks", "tags")
    by_hand.add_sample_field("empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    with pytest.raises(FieldError, match="ground_truth_field must have masks"):
        fom.evaluate(by_hand, "masks", "empty")
    sample = by_hand.first()
    sample.filepath = str(tmp_path / "gone.png")
    sample.save()
    found = fom.evaluate(by_hand, "masks", "truth")
    assert found.rows == []
    assert "gone.png" in found.failed[0][0]


def test_frames_and_slices_of_groups(make_dataset, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "a.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, HW[::-1])
    for _ in range(2):
        writer.write(draw_scene([LEFT])[..., ::-1])
    writer.release()
    labels = {"truth": field(mask_of((10, 10, 30, 30))), "masks": field(mask_of((20, 10, 40, 30)))}
    video = fo.Sample(filepath=str(tmp_path / "a.mp4"))
    video.frames[2] = fo.Frame(**labels)
    videos = make_dataset()
    videos.add_sample(video)
    assert fom.evaluate(videos.to_frames(sample_frames=True), "masks", "truth").mean() == pytest.approx(1 / 3)
    assert videos.values("frames.masks.detections.true_iou") == [[None, [pytest.approx(1 / 3)]]]
    groups, group = make_dataset(), fo.Group()
    groups.add_group_field("group", default="left")
    Image.fromarray(draw_scene([LEFT])).save(tmp_path / "a.png")
    copies = [{name: value.copy() for name, value in labels.items()} for _ in range(2)]
    paths = zip(("left", "right"), copies, strict=True)
    groups.add_samples(
        [fo.Sample(filepath=str(tmp_path / "a.png"), group=group.element(name), **copy) for name, copy in paths]
    )
    slices = groups.select_group_slices()
    assert fom.evaluate(slices, "masks", "truth").mean() == pytest.approx(1 / 3)
    assert slices.values("masks.detections.true_iou") == [[pytest.approx(1 / 3)]] * 2


def test_frames_of_videos_need_no_image_files(video):
    sample = video.first()
    for number in (2, 3):
        sample.frames[number]["truth"] = field(mask_of((10, 10, 30, 30)))
        sample.frames[number]["masks"] = field(mask_of((20, 10, 40, 30)))
    sample.save()
    found = fom.evaluate(video, "frames.masks", "frames.truth")
    assert (found.label_field, found.ground_truth_field) == ("frames.masks", "frames.truth")
    assert [row["iou"] for row in found.rows] == pytest.approx([1 / 3, 1 / 3])
    assert found.failed == []
    written = video.values("frames.masks.detections.true_iou", unwind=True)
    assert [value for value in written if value is not None] == pytest.approx([1 / 3, 1 / 3])
    with pytest.raises(FieldError, match="samples must be images"):
        fom.evaluate(video, "masks", "truth")


def ranked(**attributes):
    """A right mask and one of nothing, with a value of each attribute for each of the two."""
    values = [{name: pair[i] for name, pair in attributes.items()} for i in (0, 1)]
    return field(mask_of((10, 10, 30, 30), **values[0]), mask_of((100, 100, 120, 120), **values[1]))


def test_average_precision_goes_by_mask_quality_where_all_masks_have_it(make_dataset):
    truth = {"truth": field(mask_of((10, 10, 30, 30)))}
    right, wrong = {"mask_quality": (0.9, 0.1)}, {"mask_quality": (0.9, None)}
    dataset = make_dataset({**truth, "masks": ranked(confidence=(0.2, 0.8), **right)})
    dataset.add_dynamic_sample_fields()  # as a run does
    found = fom.evaluate(dataset, "masks", "truth")
    assert found.scored_by == "mask_quality"
    assert found.ap["AP"] == pytest.approx(1)  # by confidence the wrong mask would come first
    assert "Masks scored by mask_quality: AP 1.000" in found.table()
    assert dataset.values("masks.detections.confidence") == [[0.2, 0.8]]  # as it was
    others = make_dataset({**truth, "masks": ranked(confidence=(0.2, 0.8), **wrong)})
    others.add_dynamic_sample_fields()
    found = fom.evaluate(others, "masks", "truth")
    assert found.scored_by == "confidence"
    assert found.ap["AP"] == pytest.approx(0.5)


def test_the_figures_of_mask_quality_are_those_of_the_masks_that_have_one(make_dataset):
    truth = field(mask_of((10, 10, 30, 30)))
    dataset = make_dataset({"truth": truth, "masks": ranked(mask_quality=(0.9, 0.2), predicted_iou=(0.9, None))})
    found = fom.evaluate(dataset, "masks", "truth").as_dict()["calibration"]
    assert (found["mask_quality"]["count"], found["predicted_iou"]["count"]) == (2, 1)
    assert found["mask_quality"]["expected_calibration_error"] == pytest.approx((0.1 + 0.2) / 2)
    assert found["mask_quality"]["spearman"] == pytest.approx(1)


def test_the_command_prints_the_table_and_writes_the_figures(by_hand, tmp_path, capsys):
    words = ["evaluate", "--dataset", by_hand.name, "--label-field", "masks", "--ground-truth-field", "truth"]
    assert cli.main([*words, "--json", str(tmp_path / "figures.json")]) == 1  # a label has no mask
    assert "| small | 2 | 0.167 |" in capsys.readouterr().out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["objects"], figures["missed"]) == (3, 1)
    by_hand.reload()
    assert by_hand.bounds("masks.detections.true_iou") == (0, 1)
    assert cli.main([*words[:-1], "is_not_there"]) == 2
    assert "ground_truth_field must be" in capsys.readouterr().err


def test_what_was_measured_goes_with_its_truth(by_hand):
    fom.evaluate(by_hand, "masks", "truth")
    sample = by_hand.first()
    truth, sample["truth"] = sample["truth"], None
    sample.save()
    other = by_hand.last()
    other["truth"] = field(*truth.detections[:1])
    other.save()
    fom.evaluate(by_hand, "masks", "truth")
    assert by_hand.values("masks.detections.true_iou") == [[None] * 4, [0]]


def test_the_table_says_what_average_precision_goes_by(by_hand):
    by_hand.delete_samples(by_hand.last())
    table = fom.evaluate(by_hand, "masks", "truth").table()
    assert "Masks scored by confidence: AP" in table
    assert "Not compared:" in table
    with pytest.raises(FieldError, match="another field than label_field"):
        fom.evaluate(by_hand, "masks", "masks")
