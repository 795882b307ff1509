"""The encoder in OpenVINO: the same embedding, a graph that is made once, and a way out where it cannot run."""

import numpy as np
import pytest
import torch
from tolerances import LOW_RES_LOGITS

from mobilesam import SamPredictor, make_prompts
from mobilesam.fast import openvino_encoder
from mobilesam.fast.encoder import FastEncoder
from mobilesam.fast.openvino_encoder import SWITCH, OpenVinoEncoder

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

BOXES = [[439, 437, 524, 709], [700, 40, 1100, 720]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def wanted(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv(SWITCH, "1")


def test_the_same_embedding_and_masks_as_ours(sam, zidane, monkeypatch):
    predictor = SamPredictor(sam, fast=True)
    predictor.set_image(zidane)
    found = predictor.predict_batch(make_prompts(boxes=BOXES))
    assert isinstance(predictor.backend._encoder, OpenVinoEncoder)
    monkeypatch.setenv(SWITCH, "0")
    ours = SamPredictor(sam, fast=True)
    ours.set_image(zidane)
    assert isinstance(ours.backend._encoder, FastEncoder)
    assert (predictor.features - ours.features).abs().max() <= LOW_RES_LOGITS
    assert predictor.backend.encoder_name == ours.backend.encoder_name  # so embeddings of one serve the other
    for [one], [other] in zip(found, ours.predict_batch(make_prompts(boxes=BOXES)), strict=True):
        assert np.mean(one.full(zidane.shape[:2]) != other.full(zidane.shape[:2])) < 1e-5


def test_several_images_in_one_call(sam):
    encoder, pixels = OpenVinoEncoder(sam), torch.randn(2, 3, 1024, 1024)
    found = encoder(pixels)
    assert found.shape == (2, 256, 64, 64)
    assert (found - sam.encode_image(pixels)).abs().max() <= LOW_RES_LOGITS


def test_the_graph_is_made_once_and_again_if_a_part_is_gone(sam, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    core, made, convert = openvino.Core(), [], openvino_encoder.convert
    monkeypatch.setattr(openvino_encoder, "convert", lambda sam: made.append(sam) or convert(sam))
    for times in (1, 1):
        assert openvino_encoder.graph_of(sam, core).inputs[0].shape == [1, 3, 1024, 1024]
        assert len(made) == times
    [graph] = tmp_path.rglob("encoder.bin")
    graph.unlink()
    for times in (2, 2):
        openvino_encoder.graph_of(sam, core)
        assert len(made) == times


def test_other_threads_or_weights_need_another_one(sam):
    encoder, threads = OpenVinoEncoder(sam), torch.get_num_threads()
    assert encoder.fits(sam, torch.float32)
    assert not encoder.fits(sam, torch.bfloat16)
    try:
        torch.set_num_threads(threads + 1)
        assert not encoder.fits(sam, torch.float32)
    finally:
        torch.set_num_threads(threads)


def test_where_it_cannot_run_ours_does_and_that_is_said(sam, zidane, monkeypatch):
    def broken(*args):
        raise RuntimeError("no such plugin")

    monkeypatch.setattr(openvino_encoder, "graph_of", broken)
    predictor = SamPredictor(sam, fast=True)
    with pytest.warns(UserWarning, match="OpenVINO cannot run the image encoder, torch does instead: no such plugin"):
        predictor.set_image(zidane)
    assert isinstance(predictor.backend._encoder, FastEncoder)


def test_a_cache_folder_that_cannot_be_written_costs_the_next_start_only(sam, tmp_path, monkeypatch):
    (tmp_path / "mobilesam").write_text("a file where the folder would be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pixels = torch.randn(1, 3, 1024, 1024)
    assert (OpenVinoEncoder(sam)(pixels) - sam.encode_image(pixels)).abs().max() <= LOW_RES_LOGITS
