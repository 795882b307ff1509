"""The keep rule as a truth table: what is stored and what was made in, what is written out. Needs no database."""

import itertools

import pytest
from bson import ObjectId

from fiftyone_mobilesam.keep import made_from, outdated, prompt_names, what_stays

A, B, C = (ObjectId(f"65000000000000000000000{i}") for i in (1, 2, 3))


def prompt(label_id, box=(0.1, 0.1, 0.2, 0.2), **attributes):
    return {"_id": label_id, "_cls": "Detection", "tags": [], "bounding_box": list(box), **attributes}


def prompts(*labels):
    return {"boxes": {"_cls": "Detections", "detections": list(labels)}}


def mask(prompt_id, **attributes):
    return {"_id": f"mask of {prompt_id}", "prompt_id": prompt_id and str(prompt_id), **attributes}


def made(*prompt_ids):
    return [mask(prompt_id, new=True) for prompt_id in prompt_ids]


def stored(labels, of):
    return {"detections": labels, "fingerprint": "f", "made_from": made_from(of)}


OLD, NOW = prompts(prompt(A)), prompts(prompt(A))
MOVED = prompts(prompt(A, (0.5, 0.5, 0.2, 0.2)))
STATES = {
    "untouched": {},
    "accepted": {"review": "accepted"},
    "rejected": {"review": "rejected"},
    "failed": {"failure": "x"},
}


@pytest.mark.parametrize(
    ("state", "same_prompt", "same_settings"), list(itertools.product(STATES, (True, False), (True, False)))
)
def test_a_label_of_a_prompt_stays_if(state, same_prompt, same_settings):
    label = mask(A, **STATES[state])
    stays = what_stays(stored([label], OLD), NOW if same_prompt else MOVED, same_settings=same_settings)
    expected = same_prompt and state != "failed" and (same_settings or state == "accepted")
    assert stays.labels == ({str(A): label} if expected else {})


@pytest.mark.parametrize(("review", "expected"), [("accepted", True), (None, False)])
def test_of_a_run_with_other_settings_only_what_was_accepted_stays(review, expected):
    value = stored([mask(A, review=review)], OLD)
    value["made_from"] = {name: outdated(what) for name, what in value["made_from"].items()}
    assert bool(what_stays(value, NOW, same_settings=True).labels) == expected


def test_a_mask_file_that_is_gone_does_not_stay(tmp_path):
    label = mask(A, mask_path=str(tmp_path / "a.png"))
    assert not what_stays(stored([label], OLD), NOW, same_settings=True).labels
    (tmp_path / "a.png").touch()
    assert what_stays(stored([label], OLD), NOW, same_settings=True).labels


@pytest.mark.parametrize("labels_before", [[], ["drawn"], ["drawn", A, "also drawn"], [B, A, "drawn"], [A, B]])
def test_labels_of_no_prompt_here_keep_their_place(labels_before):
    """Drawn by hand: always. Of a prompt that the view hides: too. Of one that was deleted: no."""
    there = [mask(None, drawn=x) if isinstance(x, str) else mask(x) for x in labels_before]
    value = stored(there, prompts(prompt(A), prompt(B)))
    hides_b = what_stays(value, MOVED, same_settings=True, hidden={str(B)})
    written = hides_b.written(made(A), [str(A)])
    kept = [label for label in there if label["prompt_id"] != str(A)]
    assert [label for label in written if not label.get("new")] == kept
    if A in labels_before:
        place = [label["prompt_id"] for label in there].index(str(A))
        assert written.index(made(A)[0]) == place
    gone = what_stays(value, MOVED, same_settings=True).written(made(A), [str(A)])
    assert [label for label in gone if label["prompt_id"] == str(B)] == []
    merged = what_stays(value, MOVED, same_settings=False, hidden=None).written(made(A), [str(A)])
    assert merged == written  # merging keeps what is of any other prompt


def test_labels_drawn_beside_those_of_pairs_keep_their_place():
    pairs = {"boxes": prompts(prompt(A))["boxes"], "points": {"_cls": "Keypoints", "keypoints": [prompt(B)]}}
    there = stored([mask(None, drawn=1), mask(A), mask(B), mask(None, drawn=2)], pairs)
    written = what_stays(there, pairs, same_settings=True).written(made(A, B))
    assert [label.get("drawn") for label in written] == [1, None, None, 2]


def test_masks_that_stay_and_new_ones_stand_in_the_order_of_the_prompts():
    now = prompts(prompt(C), prompt(A), prompt(B, (0.5, 0.5, 0.1, 0.1)))
    value = stored([mask(A, corrected=True), mask(B)], prompts(prompt(A), prompt(B)))
    stays = what_stays(value, now, same_settings=True)
    written = stays.written(made(C, B), made_from(now))
    assert [(label["prompt_id"], bool(label.get("new"))) for label in written] == [
        (str(C), True), (str(A), False), (str(B), True)
    ]  # fmt: skip


def test_in_place_nothing_but_masks_of_prompts_is_there_to_stay():
    label = {**prompt(A), **mask(A), "_id": A, "review": "accepted"}
    stays = what_stays(stored([label], OLD), prompts(label), same_settings=False, in_place=True)
    assert (stays.labels, stays.before, stays.after) == ({str(A): label}, (), ())


def test_ids_that_are_not_unique_name_nothing():
    twice = prompts(prompt(A), prompt(A, (0.5, 0.5, 0.1, 0.1)))
    assert not what_stays(stored([mask(A)], OLD), twice, same_settings=True).labels


@pytest.mark.parametrize(
    "written",
    [
        {"mask": b"1", "mask_path": "x", "prompt_id": "y", "predicted_iou": 0.5, "stability_score": 0.9},
        {"failure": "why", "fingerprint": "f", "made_from": {}, "failed_prompts": 1, "prompt_boxes": {}},
        {"review": "accepted", "tags": ["accepted", "anything"], "run": "key", "prompt_box": [0, 0, 1, 1]},
    ],
)
def test_no_mask_depends_on_what_runs_and_people_write_about_it(written):
    assert made_from(prompts({**prompt(A), **written})) == made_from(NOW)


def test_a_tagged_prompt_of_an_earlier_version_is_known():
    tagged = prompts(prompt(A) | {"tags": ["x"]})
    now, former = prompt_names(tagged)[str(A)]
    value = stored([mask(A)], tagged) | {"made_from": {str(A): former}}
    assert now != former
    assert what_stays(value, tagged, same_settings=True).labels
