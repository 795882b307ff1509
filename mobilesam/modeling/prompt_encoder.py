"""Points, boxes and masks -> sparse and dense prompt embeddings.

Source: the architecture of Segment Anything's `prompt_encoder.py`, with two additions its ONNX twin has too: points
labelled 2 and 3 are the corners of a box, and other labels are refused where prompts enter (`prompts.py`).
"""

import math

import torch
from torch import Tensor, nn

from mobilesam.modeling.common import LayerNorm2d


class PositionEmbeddingRandom(nn.Module):
    """Random Fourier features of positions in the unit square."""

    def __init__(self, num_pos_feats: int):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn((2, num_pos_feats)))

    def encode(self, unit_coords: Tensor) -> Tensor:
        """(..., 2) xy in [0, 1] -> (..., 2 * num_pos_feats)."""
        angles = 2 * math.pi * ((2 * unit_coords - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Encode the centres of an (H, W) grid -> (C, H, W)."""
        height, width = size
        device = self.positional_encoding_gaussian_matrix.device
        ys = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        xs = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
        return self.encode(torch.stack([grid_x, grid_y], dim=-1)).permute(2, 0, 1)


class PromptEncoder(nn.Module):
    """Embeds the prompts of `B` objects at once. Coordinates are pixels of the input frame."""

    def __init__(
        self,
        embed_dim: int,
        image_embedding_size: tuple[int, int],
        input_image_size: tuple[int, int],
        mask_in_chans: int,
        activation: type[nn.Module] = nn.GELU,
    ):
        super().__init__()
        self.embed_dim = embed_dim
        self.image_embedding_size = image_embedding_size
        self.input_image_size = input_image_size
        self.mask_input_size = (4 * image_embedding_size[0], 4 * image_embedding_size[1])
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        # By point label: 0 background, 1 foreground, 2 and 3 the two corners of a box.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self.no_mask_embed = nn.Embedding(1, embed_dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            activation(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            activation(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )

    def forward(
        self, points: tuple[Tensor, Tensor] | None = None, boxes: Tensor | None = None, masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts.

        Args:
            points: (B, N, 2) xy and (B, N) labels: 1 foreground, 0 background, -1 not a point, 2 and 3 box corners.
            boxes: (B, 4) xyxy.
            masks: (B, 1, 256, 256) low-res logits.

        Returns:
            Sparse embeddings (B, T, 256), T being N + 1 for points alone and N + 2 with a box, and dense embeddings
            (B, 256, 64, 64). Without a mask the dense ones are one expanded vector and take no memory.
        """
        sparse = []
        if points is not None:
            sparse.append(self.embed_points(*points, pad=boxes is None))
        if boxes is not None:
            learned = torch.cat([self.point_embeddings[2].weight, self.point_embeddings[3].weight])
            sparse.append(self._encode_coords(boxes.reshape(-1, 2, 2)) + learned)
        batch = next((len(x) for x in (*sparse, masks) if x is not None), 1)
        if not sparse:
            sparse.append(self.no_mask_embed.weight.new_zeros((batch, 0, self.embed_dim)))
        if masks is None:
            dense = self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(batch, -1, *self.image_embedding_size)
        else:
            dense = self.mask_downscaling(masks)
        return torch.cat(sparse, dim=1), dense

    def get_dense_pe(self) -> Tensor:
        """Return the positional encoding of the image embedding, (1, 256, 64, 64)."""
        return self.pe_layer(self.image_embedding_size).unsqueeze(0)

    def embed_points(self, coords: Tensor, labels: Tensor, *, pad: bool) -> Tensor:
        """Embed (B, N, 2) points with (B, N) labels -> (B, N, 256), or (B, N + 1, 256) with a padding point."""
        if pad:  # A model trained with boxes expects a second token; without one it gets "not a point".
            coords = torch.cat([coords, coords.new_zeros((coords.shape[0], 1, 2))], dim=1)
            labels = torch.cat([labels, labels.new_full((labels.shape[0], 1), -1)], dim=1)
        embedding = self._encode_coords(coords)
        labels = labels.unsqueeze(-1)
        embedding = torch.where(labels == -1, self.not_a_point_embed.weight, embedding)
        for label, learned in enumerate(self.point_embeddings):
            embedding = torch.where(labels == label, embedding + learned.weight, embedding)
        return embedding

    def _encode_coords(self, coords: Tensor) -> Tensor:
        height, width = self.input_image_size
        # A prompt names a pixel, the encoding wants its centre. float32 always: half precision is off by pixels.
        centres = coords.float() + 0.5
        return self.pe_layer.encode(centres / centres.new_tensor([width, height]))
