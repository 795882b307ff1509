"""The App's annotation model without a browser: the files, what is served, the choice, the field."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import fiftyone as fo
import fiftyone.operators as foo
import pytest
from fiftyone.operators.executor import ExecutionError, Executor
from scenes import LEFT, detections, ellipse_box, keypoints

from fiftyone_mobilesam.app import annotation_files as annotation
from mobilesam import FieldError, MissingPackageError, MobileSamError
from mobilesam.weights import sha256_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def models(app_models, tmp_path, monkeypatch) -> Path:
    """A copy of FiftyOne's models with our pair that FiftyOne uses, without a choice in the environment."""
    shutil.copytree(app_models, tmp_path / "models")
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path / "models"))
    monkeypatch.setattr(annotation, "_before", None)
    monkeypatch.setenv(annotation.VARIABLE, "")  # so that what a test sets is taken back
    del os.environ[annotation.VARIABLE]
    return tmp_path / "models"


@pytest.fixture
def copied_plugin(tmp_path, monkeypatch) -> Path:
    """The plugin's card and code, copied into a plugins folder; its folder."""
    folder = tmp_path / "plugins" / "@mobilesam" / "fiftyone-mobilesam"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "fiftyone.yml", folder)
    shutil.copytree(ROOT / "fiftyone_mobilesam", folder / "fiftyone_mobilesam")
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path / "plugins"))
    return folder


def run(name, dataset, **params):
    return foo.execute_operator(f"@mobilesam/fiftyone-mobilesam/{name}", {"dataset": dataset}, params=params).result


def form(dataset, **params):
    ctx = foo.ExecutionContext({"dataset_name": dataset.name, "params": params})
    operator = foo.get_operator("@mobilesam/fiftyone-mobilesam/use_for_annotation")
    return operator.resolve_type(ctx, "inputs").to_json()["type"]["properties"]


def test_operators_set_the_model_and_give_back_what_was_there(models, copied_plugin, make_dataset, monkeypatch):
    monkeypatch.setenv(annotation.VARIABLE, "https://models.example")
    dataset = make_dataset({})
    result = run("use_for_annotation", dataset, label_field="clicks")
    assert json.loads(json.dumps(result)) == {"address": os.environ[annotation.VARIABLE], "label_field": "clicks"}
    prefix = "/plugins/@mobilesam/fiftyone-mobilesam/"
    assert result["address"].startswith(prefix)
    assert annotation.is_intact(copied_plugin / result["address"].removeprefix(prefix))
    assert "MobileSAM" in form(dataset)["what"]["default"].split("now")[0]
    dataset.reload()
    assert dataset.active_label_schemas == ["clicks"]
    run("use_for_annotation", dataset, label_field="clicks")  # again changes nothing
    assert run("stop_using_for_annotation", dataset) == {"was_active": True, "address": "https://models.example"}
    assert run("stop_using_for_annotation", dataset) == {"was_active": False, "address": "https://models.example"}


def test_each_weights_have_a_pair_of_their_own(models):
    own, coco = annotation.build_pair(), annotation.build_pair("mobile_sam_coco.pt")
    assert annotation.is_intact(own)
    assert annotation.is_intact(coco)
    assert sha256_of(own / "decoder.onnx") != sha256_of(coco / "decoder.onnx")
    with pytest.raises(MobileSamError, match=r"nowhere\.pt"):
        annotation.build_pair("nowhere.pt")


def test_the_choice_outlives_the_server_unless_its_environment_names_another(models, tmp_path, monkeypatch):
    address = annotation.use(tmp_path / "plugin", "/plugins/ours")
    del os.environ[annotation.VARIABLE]
    annotation.restore(tmp_path / "plugin")
    assert os.environ[annotation.VARIABLE] == address
    monkeypatch.setenv(annotation.VARIABLE, "https://models.example")
    annotation.restore(tmp_path / "plugin")
    assert os.environ[annotation.VARIABLE] == "https://models.example"


def test_stopping_forgets_the_choice(models, tmp_path):
    annotation.use(tmp_path / "plugin", "/plugins/ours")
    assert annotation.stop_using(tmp_path / "plugin")
    annotation.restore(tmp_path / "plugin")
    assert annotation.VARIABLE not in os.environ


def test_damaged_files_are_made_again(models, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mobilesam.export_onnx",
        lambda sam, folder, signature: [(folder / name).write_bytes(b"new") for name in annotation.FILES],
    )
    folder = annotation.build_pair()
    assert (folder / "decoder.onnx").stat().st_size > 1e6, "an intact pair is not exported again"
    data = bytearray((folder / "decoder.onnx").read_bytes())
    data[1000] ^= 1
    (folder / "decoder.onnx").write_bytes(data)
    assert annotation.build_pair() == folder
    assert (folder / "decoder.onnx").read_bytes() == b"new"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_that_cannot_be_written_to_is_named(models, tmp_path):
    (tmp_path / "plugin").write_text("a file where a folder must be")
    with pytest.raises(MobileSamError, match=r"plugin/app_models must be a folder with room for 45 MB"):
        annotation.use(tmp_path / "plugin", "/plugins/ours")
    assert annotation.VARIABLE not in os.environ


def test_without_onnx_the_command_is_shown(tmp_path, monkeypatch, plugin, make_dataset):
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("fiftyone_mobilesam.app.use_for_annotation.find_spec", lambda name: None)
    missing = form(make_dataset({}))["missing"]
    assert missing["invalid"]
    assert missing["view"]["label"] == "Install first: pip install onnx onnxruntime"
    with pytest.raises(MissingPackageError, match="pip install onnx"):
        annotation.build_pair()


def test_the_field_must_fit(plugin, make_dataset):
    dataset = make_dataset({"points": keypoints([LEFT[0]]), "boxes": detections(ellipse_box(*LEFT))})
    for field, problem in (("points", "of another type"), ("no name", "letters, digits")):
        prop = form(dataset, label_field=field)["label_field"]
        assert prop["invalid"]
        assert problem in prop["error_message"]
        with pytest.raises(FieldError, match=problem):
            annotation.set_up_field(dataset, field)
        with pytest.raises(ExecutionError, match="Validation error"):
            run("use_for_annotation", dataset, label_field=field)
    assert [choice["value"] for choice in form(dataset)["label_field"]["view"]["choices"]] == ["annotations", "boxes"]


def test_a_field_is_set_up_once(make_dataset):
    dataset = make_dataset({"boxes": detections(ellipse_box(*LEFT))})
    annotation.set_up_field(dataset, "boxes")
    assert dataset.label_schemas["boxes"]["classes"] == ["a"]
    schema = {**dataset.label_schemas["boxes"], "classes": ["a", "b"]}
    dataset.update_label_schema("boxes", schema)
    annotation.set_up_field(dataset, "boxes")
    assert dataset.label_schemas["boxes"]["classes"] == ["a", "b"], "what a user described stays"
    annotation.set_up_field(dataset, "new")
    assert dataset.active_label_schemas == ["boxes", "new"]


def test_the_app_is_told_why_it_failed(copied_plugin, tmp_path, monkeypatch, make_dataset):
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path / "file" / "models"))
    (tmp_path / "file").write_text("")
    name = "@mobilesam/fiftyone-mobilesam/use_for_annotation"
    request = {"dataset_name": make_dataset({}).name, "operator_uri": name, "params": {}}
    messages = list(foo.get_operator(name).execute(foo.ExecutionContext(request, executor=Executor())))
    assert "must be a folder with room" in messages[-1].to_json_line()


def test_the_form_brings_no_torch(plugin):
    program = """
import sys, fiftyone as fo, fiftyone.operators as foo
fo.config.plugins_dir = sys.argv[1]
foo.get_operator(sys.argv[2] + "use_for_annotation").resolve_type(foo.ExecutionContext({}), "inputs").to_json()
print("torch" in sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", program, fo.config.plugins_dir, plugin]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split()[-1:] == ["False"], result.stderr
