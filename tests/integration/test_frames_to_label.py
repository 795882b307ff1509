"""Which frames are named where tracks are doubtful; the tracks are written by hand."""

import fiftyone as fo
import pytest
from fiftyone import ViewField as F

import fiftyone_mobilesam as fom
from mobilesam import FieldError


def labels(confidences):
    """Return the labels of an image by the confidence of each track; None where it has none."""
    return fo.Detections(
        detections=[
            fo.Detection(label="a", bounding_box=[0, 0, 0.5, 0.5], index=index, track_confidence=told)
            for index, told in enumerate(confidences)
            if told is not None
        ]
    )


@pytest.fixture
def videos(make_dataset):
    """A video of 60 frames: a track that is bad from 31 to 40, one that is lost from 50 on. And one without labels."""
    dataset = make_dataset()
    video = fo.Sample(filepath="tracks.mp4")
    for number in range(1, 61):
        first = 0.5 if 31 <= number <= 40 else 0.95
        video.frames[number] = fo.Frame(tracks=labels([first, None if number >= 50 else 0.9]))
    empty = fo.Sample(filepath="empty.mp4")
    empty.frames[1] = fo.Frame()
    dataset.add_samples([video, empty], progress=False)
    dataset.add_dynamic_frame_fields()
    return dataset


def test_the_first_of_each_bad_row_is_named_and_the_worse_row_first(videos):
    found = fom.frames_to_label(videos, "frames.tracks", 5)
    assert [(place.frame_number, place.tracks) for place in found] == [(50, [1]), (31, [0])]
    assert {place.sample_id for place in found} == {videos.first().id}
    assert [place.gain for place in found] == pytest.approx([11 * 0.5, 10 * 0.3])
    assert [place.frame_number for place in fom.frames_to_label(videos, "frames.tracks", 1)] == [50]


def test_a_long_bad_row_is_named_again_where_a_label_does_not_reach(videos):
    video = videos.first()
    for number in range(5, 61):
        video.frames[number]["tracks"] = labels([0.6, 0.95])
    video.save()
    numbers = [place.frame_number for place in fom.frames_to_label(videos, "frames.tracks", 9)]
    assert numbers == [5, 25, 45]


def test_images_in_order(make_dataset):
    dataset = make_dataset(*({"tracks": labels([told])} for told in (0.9, 0.9, 0.4, 0.9)))
    dataset.add_dynamic_sample_fields()
    [place] = fom.frames_to_label(dataset, "tracks")
    assert (place.sample_id, place.frame_number) == (dataset.values("id")[2], None)
    backwards = dataset.sort_by(F("id"), reverse=True)
    assert fom.frames_to_label(backwards, "tracks")[0].sample_id == dataset.values("id")[2]


def test_wrong_calls(videos, make_dataset):
    with pytest.raises(ValueError, match="count must be 1 or more, got 0"):
        fom.frames_to_label(videos, "frames.tracks", 0)
    plain = make_dataset({"boxes": fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])})
    with pytest.raises(FieldError, match="propagate=True"):
        fom.frames_to_label(plain, "boxes")
