"""Where a training begins, and which of the weights that it found are kept."""

import pytest
import torch
from trained import CARD, FIGURES, nudged

from mobilesam import build_sam_vit_t
from mobilesam.training.card import describe
from mobilesam.training.start import Start, start_for
from mobilesam.training.train import Choice, _choose


@pytest.fixture(scope="module")
def start(sam):
    return start_for(sam)


def test_mobilesams_own_weights_begin_with_the_bundled_decoder(sam, start):
    bundled = build_sam_vit_t("mobile_sam_coco.pt").state_dict()
    assert start.decoder == "mobile_sam_coco.pt"
    assert start.gain_on_photographs == pytest.approx(0.026, abs=1e-3)  # PROVENANCE.md
    for key, value in start.sam.state_dict().items():
        assert torch.equal(value, bundled[key]), key
    assert not torch.equal(sam.mask_decoder.mask_tokens.weight, start.sam.mask_decoder.mask_tokens.weight)


def test_other_weights_begin_with_what_they_are(sam, start):
    for other in (nudged(sam), start.sam):
        assert start_for(other) == Start(other)


def choice(share, own, photographs, *, error=0.01):
    return Choice(share, {"gain": own, "standard_error": error}, {"gain": photographs}, told=None)


@pytest.mark.parametrize(
    ("choices", "kept"),
    [
        ([choice(1.0, 0.03, 0.00), choice(0.5, 0.025, 0.02)], 0.5),  # together they gain more
        ([choice(1.0, 0.05, -0.003), choice(0.5, 0.02, 0.02)], 1.0),
        ([choice(1.0, 0.07, -0.01), choice(0.5, 0.02, 0.00)], 0.5),  # the first forgets too much
        ([choice(1.0, 0.02, 0.00), choice(0.0, 0.004, 0.03)], 1.0),  # the second gains too little of yours
        ([choice(1.0, 0.004, 0.03), choice(0.0, 0.003, 0.03)], None),  # less than half a point
        ([choice(1.0, 0.02, 0.03, error=0.05)], None),  # less than half of its error
        ([choice(1.0, 0.02, -0.01)], None),
    ],
)
def test_what_is_kept_gains_most_on_your_images_and_photographs_together(start, choices, kept):
    decoder = dict(nudged(start.sam).mask_decoder.named_parameters())
    found, new = _choose(start, choices, [decoder], 0.004)
    assert (new is None) == (kept is None)
    if kept is None:
        assert found.reason
    else:
        assert found.share == kept


def test_photographs_do_not_count_where_any_loss_is_allowed(start):
    decoder = dict(start.sam.mask_decoder.named_parameters())
    found, _ = _choose(start, [choice(1.0, 0.03, -0.2), choice(0.5, 0.02, 0.0)], [decoder], 1)
    assert found.share == 1.0


def test_the_card_says_what_the_start_gave_by_itself():
    began = {"decoder": "mobile_sam_coco.pt", "gain_on_photographs": 0.026, "gain": 0.0123}
    card = {**CARD, "began_with": began, "photographs": {**FIGURES, "spearman_before": None, "spearman_after": None}}
    assert "began with the decoder of mobile_sam_coco.pt, which gains 1.2 points on your images" in describe(card, None)
    assert "of its own gain there 2.6 points are counted" in describe(card, None)
    nothing_learnt = {**card, "settings": {**card["settings"], "share": 0.0}}
    assert "none of it is kept" in describe(nothing_learnt, None)
    assert "mobile_sam_coco" not in describe({**CARD, "began_with": {**began, "decoder": None}}, None)
