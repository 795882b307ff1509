import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from mobilesam import CheckpointError, build_sam_vit_t, load_model, weights
from mobilesam.layout import UNUSED_SHAPES


def test_bundled_weights_are_the_ones_that_provenance_names():
    text = (weights.BUNDLED.parent / "PROVENANCE.md").read_text()
    assert weights.sha256_of(weights.BUNDLED) in text


def test_the_coco_decoder_is_the_one_that_provenance_names_and_changes_nothing_else(sam):
    text = (weights.COCO.parent / "PROVENANCE.md").read_text()
    assert weights.sha256_of(weights.COCO) in text
    state = load_model("mobile_sam_coco.pt", device="cpu").state_dict()  # tests it on a known image
    changed = {key for key, x in sam.state_dict().items() if not state[key].equal(x)}
    assert changed == load_file(weights.COCO).keys()
    assert all(key.startswith("mask_decoder.") for key in changed)
    assert weights.read_card(weights.COCO)["images_left_out"]["gain"] > 0


def test_resolve_prefers_a_local_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert weights.resolve("mobile_sam.pt") == weights.BUNDLED
    (tmp_path / "mobile_sam.pt").touch()
    assert weights.resolve("mobile_sam.pt").name == "mobile_sam.pt"


def test_resolve_names_a_missing_file():
    with pytest.raises(CheckpointError, match=r"nowhere\.pt.*does not exist"):
        weights.resolve("nowhere.pt")


def test_state_dict_has_upstreams_names(sam, checkpoint):
    saved = torch.load(checkpoint, weights_only=True)
    assert len(saved) == 439
    assert sam.state_dict().keys() == saved.keys()
    unused = {f"image_encoder.{name}" for name in UNUSED_SHAPES}
    assert saved.keys() - load_file(weights.BUNDLED).keys() == unused
    assert weights.used_tensors(saved).keys() == load_file(weights.BUNDLED).keys()


def test_a_loaded_model_equals_the_saved_one(sam, checkpoint):
    again = build_sam_vit_t(checkpoint)
    for name, tensor in sam.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not again.training


def test_loading_new_weights_forgets_the_old_attention_biases(sam):
    fresh = build_sam_vit_t(None)
    pixels = torch.zeros(1, 3, 1024, 1024)
    with torch.no_grad():
        fresh.encode_image(pixels)  # gathers the biases of the random weights
        fresh.load_state_dict(sam.state_dict())
        assert torch.equal(fresh.encode_image(pixels), sam.encode_image(pixels))


def test_nested_and_parallel_checkpoints_load(sam, tmp_path):
    torch.save({"model": {f"module.{k}": v for k, v in sam.state_dict().items()}}, tmp_path / "nested.pth")
    assert weights.load_state_dict(tmp_path / "nested.pth").keys() == sam.state_dict().keys()


def test_another_architecture_is_named(tmp_path):
    save_file({"backbone.conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"435 missing .*1 unexpected \(backbone.conv.weight\)"):
        build_sam_vit_t(tmp_path / "other.safetensors")


def test_another_shape_is_named(sam, tmp_path):
    state = {**sam.state_dict(), "mask_decoder.iou_token.weight": torch.zeros(2, 256)}
    torch.save(state, tmp_path / "shape.pt")
    with pytest.raises(CheckpointError, match=r"1 of another shape \(mask_decoder.iou_token.weight\)"):
        build_sam_vit_t(tmp_path / "shape.pt")


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    victim = tmp_path / "victim"
    with open(tmp_path / "evil.pt", "wb") as file:
        pickle.dump({"x": Malicious(victim)}, file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights.load_state_dict(tmp_path / "evil.pt")
    assert not victim.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_broken_file_is_a_checkpoint_error(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights.load_state_dict(tmp_path / name)


def test_untrained_weights_fail_the_self_test(tmp_path):
    weights.save_checkpoint(build_sam_vit_t(None).state_dict(), tmp_path / "random.pt")
    with pytest.raises(CheckpointError, match="must segment the test image"):
        load_model(tmp_path / "random.pt", device="cpu")
