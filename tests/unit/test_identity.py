"""What a mask was made from has one name, pinned here: who changes one of these values redoes everybody's work."""

import pytest
from bson import ObjectId

from fiftyone_mobilesam.engine.identity import identity, name_of_weights, resolved_precision
from fiftyone_mobilesam.jobs.former import former_name
from fiftyone_mobilesam.keep import Names
from fiftyone_mobilesam.options import MaskOptions, Options

WEIGHTS = "7d5206cc5275368bfeecbdf92ed193a2be5ae09428f737c56160dd7004bbc475"
PROMPTS = {
    "detections": {
        "_cls": "Detections",
        "detections": [
            {
                "_id": ObjectId("650000000000000000000001"),
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": "a",
                "bounding_box": [0.1, 0.2, 0.3, 0.4],
                "index": 3,
            }
        ],
    }
}
# What version 0.1 wrote for the call beside it.
FORMER = {
    "plain": ({}, {}),
    "options": (
        {"clip": False, "confidence": "predicted_iou"},
        {"precision": "auto", "output_dir": "/data/out", "cache_dir": "/c"},
    ),
}
FORMER_FINGERPRINTS = {
    "plain": "9b1718550d553ffce02f05a6-e013bdd187f487a43ffed3cb",
    "options": "744aca334cf09605787d38b7-e013bdd187f487a43ffed3cb",
}
JOURNALS = {
    "92cbc435f73c7888b7b1b1ca9935afd4": ({}, False),
    "7c883c819a7ea6c52869112111e74a83": ({"clip": 0.05, "multimask_output": True}, True),
}


def name(options=None, precision="fp32", weights="w", **others):
    return identity(weights, precision, options or MaskOptions(), cached=False, **others)


def test_the_bundled_and_the_official_file_are_the_same_weights(checkpoint):
    assert name_of_weights("mobile_sam.pt") == WEIGHTS
    assert name_of_weights(checkpoint) == WEIGHTS  # 439 tensors, of which the model does not use four


@pytest.mark.parametrize(("journal", "made_from"), JOURNALS.items())
def test_journals_of_version_0_1_stay_valid(journal, made_from):
    options, cached = made_from
    assert identity(WEIGHTS, "fp32", MaskOptions(**options), cached=cached) == journal


@pytest.mark.parametrize("case", FORMER)
def test_labels_of_version_0_1_stay_valid(case):
    options, call = FORMER[case]
    parsed = Options(prompt_field="detections", **options)
    call = {"weights": "mobile_sam.pt", "precision": "fp32", "output_dir": None, "cache_dir": None, **call}
    names = Names(["new", former_name(parsed, call)])
    assert FORMER_FINGERPRINTS[case] in names.fingerprints(PROMPTS)
    assert names.made(FORMER_FINGERPRINTS[case])
    assert names.fingerprints(PROMPTS)[0].startswith("new-")


def test_only_what_a_mask_depends_on_is_in_its_name():
    same = (MaskOptions(clip=True), Options(), Options(prompt_field="a", merge=True, on_error="raise"))
    assert {name(options) for options in same} == {name()}
    assert name(drift=None, on_disk=None) == name()
    others = [
        name(precision="bf16"),
        name(weights="v"),
        name(MaskOptions(clip=False)),
        name(MaskOptions(multimask_output=True)),
        name(MaskOptions(min_region_area=9)),
        name(Options(box="prompt")),
        name(Options(confidence="predicted_iou")),
        name(Options(everything={"points_per_side": 8})),
        name(on_disk=True),
        name(drift={"margin": 0.1}),
        identity("w", "fp32", MaskOptions(), cached=True),
    ]
    assert len({name(), *others}) == len(others) + 1


def test_another_version_of_the_numbers_makes_all_anew(monkeypatch):
    before = name()
    monkeypatch.setattr("fiftyone_mobilesam.engine.identity.NUMBERS", 2)
    assert name() != before


def test_auto_is_what_it_comes_to(monkeypatch):
    monkeypatch.setattr("mobilesam.fast.backend.multiplies_bfloat16", lambda device: device.type == "cpu")
    assert resolved_precision("auto", ["cpu"]) == "bf16"
    assert resolved_precision("auto", ["meta"]) == "fp32"
    with pytest.raises(ValueError, match="same on all devices"):
        resolved_precision("auto", ["cpu", "meta"])
    with pytest.raises(ValueError, match="precision must be one of"):
        resolved_precision("fp8", ["cpu"])
