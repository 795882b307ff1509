"""Trained weights inherit the quality heads of the weights that they began with, and a line that corrects them.

The tokens of a decoder that learnt a little are nearly those that the heads were fitted on. What the heads say is
compared with the truth on images that were left out of the training, and the line is kept in the model card.
"""

from typing import TypedDict

from torch import Tensor, nn

from mobilesam.heads.quality_head import QualityHead

KINDS = ("box fast", "points")
BEST = "box best"  # has a line of its own: without a mask head its masks are others. Only the bundled decoder has one


class Lent(TypedDict):
    """Whose heads a checkpoint has. Without a line its `mask_quality` is unknown; weights trained from it have them."""

    fitted_for: str  # `weights_of_tokens` that the heads are for
    weights: str  # that of the checkpoint


class Inheritance(Lent):
    """What a checkpoint says of its `mask_quality`: `offset` + `slope` times what the heads tell."""

    offset: float
    slope: float
    masks: int  # of images left out, on which the line and the figures rest
    spearman: float
    expected_calibration_error: float


class InheritedHead(nn.Module):
    """A quality head and the line that corrects it."""

    def __init__(self, head: QualityHead, offset: float, slope: float):
        super().__init__()
        self.head, self.offset, self.slope = head, offset, slope

    def forward(self, iou_token: Tensor, mask_token: Tensor, signals: Tensor) -> Tensor:
        """See `QualityHead.forward`."""
        return (self.offset + self.slope * self.head(iou_token, mask_token, signals)).clamp(0, 1)
