"""The operators without a browser: forms, immediate and delegated runs, the App's messages."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import numpy as np
import pytest
import yaml
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionError, Executor
from fiftyone.operators.registry import OperatorRegistry
from operator_calls import form, messages, run
from scenes import LEFT, detections, ellipse_mask, full_mask, iou

from fiftyone_mobilesam.app import OPERATORS, PANELS
from mobilesam.weights import save_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset(operator_dataset):
    return operator_dataset


def test_the_card_lists_what_is_registered(plugin):
    card = yaml.safe_load((ROOT / "fiftyone.yml").read_text())
    assert card["operators"] == [*(operator().config.name for operator in OPERATORS), "clear_annotation_cache"]
    assert card.get("panels", []) == [panel().config.name for panel in PANELS]
    registry = OperatorRegistry()
    assert registry.list_errors() == []
    assert {operator.config.name for operator in registry.list_operators() if operator.uri.startswith(plugin)} >= set(
        card["operators"][:-1]  # the last is the browser's own
    )


def test_forms_and_placements_bring_no_torch(plugin):
    program = """
import sys, fiftyone as fo, fiftyone.operators as foo
from fiftyone.operators.executor import resolve_placement
fo.config.plugins_dir = sys.argv[1]
dataset = fo.Dataset()
boxes = fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])])
dataset.add_sample(fo.Sample(filepath="a.png", boxes=boxes))
for name in ("segment", "segment_sample", "detect_then_segment", "train", "undo_run"):
    operator = foo.get_operator(sys.argv[2] + name)
    resolve_placement(operator, {"dataset_name": dataset.name})
    operator.resolve_type(foo.ExecutionContext({"dataset_name": dataset.name}), "inputs").to_json()
dataset.delete()
print("torch" in sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, fo.config.plugins_dir, plugin]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split()[-1:] == ["False"], result.stderr


def test_the_form_offers_what_fits(plugin, dataset):
    inputs = form(plugin, "segment", dataset)
    assert inputs["prompt_field"]["type"]["values"] == ["boxes", "points", "(everything)"]
    assert inputs["point_prompt_field"]["type"]["values"] == ["points"]
    assert inputs["label_field"]["default"] == "boxes_masks"
    assert "6 prompts in 3 images: about 1 s to 3 s on a CPU" in inputs["size"]["view"]["label"]
    assert "problem" not in inputs
    assert "points_per_side" in form(plugin, "segment", dataset, prompt_field="(everything)")
    assert "in_place_notice" in form(plugin, "segment", dataset, label_field="boxes")


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"label_field": "points"}, "must be new or a field of Detections"),
        ({"label_field": "a b"}, "letters, digits and underscores"),
        ({"label_field": "../../etc"}, "letters, digits and underscores"),
        ({"prompt_field": "none"}, "has no labels in these images"),
    ],
)
def test_the_form_says_what_will_not_work(plugin, dataset, params, text):
    dataset.add_sample_field("none", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    problem = form(plugin, "segment", dataset, **params)["problem"]
    assert problem["invalid"]
    assert text in problem["error_message"]
    with pytest.raises(ExecutionError, match="Validation error"):
        run(plugin, "segment", dataset, params=params)
    assert dataset.list_runs() == []


def test_an_empty_target_is_nothing_to_do(plugin, dataset):
    with pytest.raises(ExecutionError, match="nothing to do"):
        run(plugin, "segment", dataset, view=dataset.limit(0), params={})


def test_a_run_makes_what_apply_model_makes(plugin, dataset, model):
    result = run(plugin, "segment", dataset, params={"prompt_field": "boxes", "label_field": "masks"})
    json.dumps(result)
    assert (result["state"], result["samples"], result["masks"], result["failed_prompts"]) == ("finished", 3, 5, 1)
    assert "must overlap the image" in result["failures"][0]["reason"]
    assert sum(result["predicted_iou"]["counts"]) == 5
    dataset.apply_model(model, label_field="same", prompt_field="boxes")
    for sample in dataset:
        for ours, theirs in zip(sample.masks.detections, sample.same.detections, strict=True):
            assert (ours.bounding_box, ours.predicted_iou) == (theirs.bounding_box, theirs.predicted_iou)
            assert np.array_equal(ours.mask, theirs.mask)
    config = dataset.get_run_info(result["run"]).config
    assert (config.state, config.call["prompt_field"], len(config.made_from)) == ("finished", "boxes", 32)
    assert foo.get_operator(plugin + "show_failures")(dataset, result["run"]) == result["failures"]
    assert foo.get_operator(plugin + "show_run")(dataset, result["run"]).count("masks.detections") == 6
    assert "'boxes'" in dataset.get_field("masks").description


def test_the_app_is_sent_progress_then_the_result(plugin, dataset):
    before = fo.config.show_progress_bars = True
    sent = messages(plugin, "segment", dataset, prompt_field="boxes", label_field="masks")
    assert [body["operator_uri"] for body in sent][-2:] == ["reload_dataset", "show_output"]
    bars = [body["params"] for body in sent[:-2]]
    assert all(0 <= bar["results"]["progress"] <= 1 for bar in bars)
    first = bars[0]["outputs"]["type"]["properties"]
    assert "progress" not in first  # the App draws a bar of 0 as a full one
    assert "does not stop the run" in str(first["goes_on"])
    label = bars[-1]["outputs"]["type"]["properties"]["progress"]["view"]["label"]
    assert "3 of 3 images, 5 masks, 1 failed" in label
    assert "images/s" in label
    assert sent[-1]["params"]["results"]["masks"] == 5
    assert fo.config.show_progress_bars == before  # of the console, which the run has switched off
    shown = json.dumps(sent[-1]["params"]["outputs"])
    assert "5 masks" in shown
    assert "must overlap the image" in shown


def test_stop_keeps_what_is_done(plugin, dataset):
    from fiftyone_mobilesam.app.recorded_run import segment

    event = threading.Event()
    result = segment(dataset, "masks", prompt_field="boxes", on_progress=lambda progress: event.set(), stop=event)
    assert result["state"] == "interrupted"
    done = dataset.match(fo.ViewField("masks") != None)  # noqa: E711
    assert 0 < len(done) == result["samples"] < 3
    assert dataset.get_run_info(result["run"]).config.state == "interrupted"
    run(plugin, "undo_run", dataset)
    assert not dataset.has_field("masks")


def test_the_stop_button_stops(plugin, dataset):
    request = {"dataset_name": dataset.name, "operator_uri": plugin + "segment", "params": {"prompt_field": "boxes"}}
    generator = foo.get_operator(plugin + "segment").execute(foo.ExecutionContext(request, executor=Executor()))
    first = next(generator).body.params["outputs"]["type"]["properties"]["stop"]["view"]
    assert run(plugin, "stop_run", dataset, params=first["params"]) == {"stopping": True}
    *_, last = generator
    assert last.body.params["results"]["state"] == "interrupted"
    assert run(plugin, "stop_run", dataset, params=first["params"]) == {"stopping": False}


def test_selected_labels_are_added_to_the_field(plugin, dataset):
    first, second = dataset.first().boxes.detections
    for number, label in enumerate((first, second, second)):
        selected = [{"label_id": label.id, "sample_id": dataset.first().id, "field": "boxes"}]
        ctx = {"selected_labels": selected, "view_target": foo.ViewTarget.SELECTED_LABELS}
        run(plugin, "segment", dataset, params={"label_field": "masks"}, **ctx)
        prompts = [mask.prompt_id for mask in dataset.first().masks.detections]
        assert prompts == [first.id, second.id][: number + 1]
    assert dataset.count("masks") == 1


def test_labels_drawn_by_hand_stay_in_a_field_that_is_merged(plugin, dataset):
    sample = dataset.first()
    sample["masks"] = detections([0, 0, 0.5, 0.5])
    sample.save()
    params = {"prompt_field": "boxes", "label_field": "masks", "existing": "merge"}
    result = run(plugin, "segment", dataset, view=dataset.limit(1), params=params)
    assert (result["masks"], result["failed_samples"]) == (2, 0)
    assert len(dataset.first().masks.detections) == 3
    assert run(plugin, "undo_run", dataset)["labels"] == 2
    dataset.reload()
    assert [label.bounding_box for label in dataset.first().masks.detections] == [[0, 0, 0.5, 0.5]]


def test_what_a_filter_of_the_app_hides_is_kept(plugin, dataset):
    from fiftyone import ViewField as F

    run(plugin, "segment", dataset, params={"prompt_field": "boxes", "label_field": "masks"})
    view = dataset.filter_labels("masks", F("label") == "a").filter_labels("boxes", F("label") == "a")
    params = {"prompt_field": "boxes", "label_field": "masks", "existing": "merge"}
    foo.execute_operator(plugin + "segment", {"view": view}, params=params)
    assert [len(sample.masks.detections) for sample in dataset] == [2, 2, 2]


def test_the_open_sample_only(plugin, dataset):
    sample = dataset.last()
    result = run(plugin, "segment_sample", dataset, params={"prompt_field": "points"}, current_sample=sample.id)
    assert (result["samples"], result["masks"], result["label_field"]) == (1, 2, "points_masks")
    label = {"label_id": sample.boxes.detections[0].id, "sample_id": sample.id, "field": "boxes"}
    result = run(plugin, "segment_sample", dataset, current_sample=sample.id, selected_labels=[label])
    assert (result["masks"], result["label_field"]) == (1, "boxes_masks")
    assert dataset.count("boxes_masks.detections") == 1
    with pytest.raises(ExecutionError, match="No sample is open"):
        run(plugin, "segment_sample", dataset)


def test_boxes_and_points_together_and_everything(plugin, dataset):
    params = {"prompt_field": "boxes", "point_prompt_field": "points", "label_field": "both", "clip": "off"}
    run(plugin, "segment", dataset.limit(1)._dataset, params=params)
    assert iou(full_mask(dataset.first().both.detections[0]), ellipse_mask(*LEFT)) > 0.9
    params = {"prompt_field": "(everything)", "points_per_side": 8}
    assert run(plugin, "segment", dataset, view=dataset.limit(1), params=params)["label_field"] == "everything"
    assert dataset.count("everything.detections") > 1


def test_delegated_runs_record_progress_and_result(plugin, dataset):
    params = {"prompt_field": "boxes", "label_field": "masks"}
    queued = foo.get_operator(plugin + "segment")(dataset, delegate=True, **params)
    assert queued.delegated
    environment = {**os.environ, "FIFTYONE_PLUGINS_DIR": fo.config.plugins_dir, "PYTHONPATH": str(ROOT)}
    executable = Path(sys.executable).parent / "fiftyone"
    process = subprocess.Popen([executable, "delegated", "launch"], env=environment)
    service, operation_id = DelegatedOperationService(), queued.result["id"]
    try:
        for _ in range(600):
            operation = service.get(operation_id)
            if operation.run_state in ("completed", "failed"):
                break
            process.poll()
            threading.Event().wait(0.2)
    finally:
        process.terminate()
        process.wait()
    assert operation.run_state == "completed", operation.result and operation.result.error
    assert operation.result.result["masks"] == 5
    assert operation.status.progress == 1
    dataset.reload()
    assert dataset.count("masks.detections") == 6


@pytest.mark.parametrize("what", ["dataset", "field"])
def test_what_is_deleted_during_a_run_gives_a_message(plugin, dataset, what):
    name = dataset.name
    request = {"dataset_name": name, "operator_uri": plugin + "segment", "params": {"prompt_field": "boxes"}}
    generator = foo.get_operator(plugin + "segment").execute(foo.ExecutionContext(request, executor=Executor()))
    next(generator)
    if what == "dataset":
        fo.delete_dataset(name)
    else:
        dataset.delete_sample_field("boxes")
    *_, last = generator
    text = json.dumps(last.body.params)
    assert "Traceback" not in text
    if what == "dataset":
        assert "is deleted" in text
        assert not fo.dataset_exists(name)
    else:
        dataset.reload()
        assert "boxes" in text
        assert len(dataset) == 3


def test_weights_that_were_trained_make_the_masks(plugin, dataset, sam, tmp_path):
    state = dict(sam.state_dict())
    bias = "mask_decoder.iou_prediction_head.layers.2.bias"
    state[bias] = state[bias] + 0.03125
    save_checkpoint(state, tmp_path / "ours.safetensors")
    assert "mobile_sam_coco.pt" in str(form(plugin, "segment", dataset, more=True)["weights"])
    assert form(plugin, "segment", dataset, more=True, weights="nowhere.pt")["weights"]["invalid"]
    for field, weights in (("old", "mobile_sam.pt"), ("new", str(tmp_path / "ours.safetensors"))):
        run(plugin, "segment", dataset, params={"prompt_field": "boxes", "label_field": field, "weights": weights})
    dataset.reload()
    paths = [f"{field}.detections.predicted_iou" for field in ("old", "new")]
    old, new = (np.array(dataset.values(path, unwind=True), dtype=float) for path in paths)  # NaN without a mask
    gained = (new - old)[np.isfinite(old)]
    np.testing.assert_allclose(gained, np.full(5, 0.03125), atol=1e-4)


def test_two_runs_at_once(plugin, dataset):
    results = {}

    def work(field):
        results[field] = messages(plugin, "segment", dataset, prompt_field="boxes", label_field=field)[-1]["params"]

    threads = [threading.Thread(target=work, args=[field]) for field in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dataset.reload()
    assert [results[field]["results"]["masks"] for field in ("one", "two")] == [5, 5]
    assert dataset.values("one.detections.predicted_iou") == dataset.values("two.detections.predicted_iou")


def test_the_model_is_loaded_once_and_released(plugin, dataset):
    from fiftyone_mobilesam.models import release_models, shared_model

    release_models()
    one, two = shared_model("cpu"), shared_model("cpu")
    assert one.predictor is two.predictor
    assert run(plugin, "release_models", dataset) == {"released": 1}
    assert shared_model("cpu").predictor is not one.predictor
    assert foo.get_operator(plugin + "release_models")() == {"released": 1}
