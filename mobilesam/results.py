"""What a prediction gives back: `Results` with `boxes` and `masks`, as an Ultralytics user knows them."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Array = Tensor | np.ndarray


class _Items:
    """One entry an object: the shared half of `Boxes` and `Masks`. `data` is (N, ...), a tensor or an array."""

    def __init__(self, data: Array, orig_shape: tuple[int, int]):
        self.data = data
        self.orig_shape = orig_shape

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: Any) -> Any:
        picked = self.data[index]
        return type(self)(picked[None] if isinstance(index, int) else picked, self.orig_shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `data`."""
        return tuple(self.data.shape)

    def cpu(self) -> Any:
        """Return a copy on the CPU."""
        return self.to("cpu")

    def cuda(self) -> Any:
        """Return a copy on the GPU."""
        return self.to("cuda")

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Return a copy as `torch.Tensor.to` makes it."""
        return type(self)(torch.as_tensor(self.data).to(*args, **kwargs), self.orig_shape)

    def numpy(self) -> Any:
        """Return a copy as arrays."""
        return type(self)(_numpy(self.data), self.orig_shape)


class Boxes(_Items):
    """Boxes around masks.

    Pixels of the original image. As Ultralytics has it, `x2` and `y2` are the last pixel of the object, not the edge
    behind it: add 1 for the exclusive edges that the rest of this package uses, or take `xyxy_exclusive`.

    Attributes:
        data: (N, 6) float32: x1, y1, x2, y2, score, index of the prompt.
        orig_shape: (H, W) of the image.
    """

    id = None
    is_track = False

    @property
    def xyxy(self) -> Array:
        """(N, 4), the last pixel inclusive."""
        return self.data[:, :4]

    @property
    def xyxy_exclusive(self) -> Array:
        """(N, 4), right and bottom edges exclusive."""
        return self.xyxy + self._row([0, 0, 1, 1])

    @property
    def conf(self) -> Array:
        """(N,) the model's own estimate of the mask's IoU. Can pass 1."""
        return self.data[:, 4]

    @property
    def cls(self) -> Array:
        """(N,) index of the prompt; with `multimask_output` 3 * prompt + candidate."""
        return self.data[:, 5]

    @property
    def xywh(self) -> Array:
        """(N, 4) centre, width, height."""
        stack = np.stack if isinstance(self.data, np.ndarray) else torch.stack
        x1, y1, x2, y2 = (self.data[:, i] for i in range(4))
        return stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], -1)

    @property
    def xyxyn(self) -> Array:
        """(N, 4) `xyxy` in fractions of the image."""
        return self.xyxy / self._size()

    @property
    def xywhn(self) -> Array:
        """(N, 4) `xywh` in fractions of the image."""
        return self.xywh / self._size()

    def _size(self) -> Array:
        height, width = self.orig_shape
        return self._row([width, height, width, height])

    def _row(self, values: list[float]) -> Array:
        return np.float32(values) if isinstance(self.data, np.ndarray) else self.data.new_tensor(values)


class Masks(_Items):
    """Masks of the original image.

    Attributes:
        data: (N, H, W) bool.
        orig_shape: (H, W) of the image.
    """

    @cached_property
    def xy(self) -> list[np.ndarray]:
        """Per mask a polygon (K, 2) float32 of pixels: its outer contours, one after the other, without holes."""
        return [_polygon(mask) for mask in _numpy(self.data)]

    @cached_property
    def xyn(self) -> list[np.ndarray]:
        """`xy` in fractions of the image."""
        size = np.float32(self.orig_shape[::-1])
        return [polygon / size for polygon in self.xy]


class Results:
    """The objects found in one image.

    Attributes:
        orig_img: (H, W, 3) uint8 BGR.
        orig_shape: (H, W).
        path: of the image; "image0.jpg" and so on for images in memory.
        names: a name for each value of `boxes.cls`.
        boxes: `Boxes`.
        masks: `Masks`.
        speed: milliseconds for `preprocess` (reading), `inference` and `postprocess`.
        low_res_logits: (N, 256, 256) float32 array; `low_res_logits[i]` can be a mask prompt of the next call. None
            for masks of everything.
    """

    probs = keypoints = obb = None

    def __init__(
        self,
        orig_img: np.ndarray,
        path: str,
        names: dict[int, str],
        boxes: Boxes,
        masks: Masks,
        *,
        speed: dict[str, float] | None = None,
        low_res_logits: np.ndarray | None = None,
    ):
        self.orig_img = orig_img
        self.orig_shape = orig_img.shape[:2]
        self.path = path
        self.names = names
        self.boxes = boxes
        self.masks = masks
        self.speed = speed or {}
        self.low_res_logits = low_res_logits

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> "Results":
        logits = self.low_res_logits
        if logits is not None:
            logits = logits[index][None] if isinstance(index, int) else logits[index]
        return self._with(self.boxes[index], self.masks[index], logits)

    def __iter__(self) -> Iterator["Results"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        return f"Results({self.path!r}, {width}x{height}, {self.verbose()})"

    def cpu(self) -> "Results":
        """Return a copy on the CPU."""
        return self._with(self.boxes.cpu(), self.masks.cpu())

    def cuda(self) -> "Results":
        """Return a copy on the GPU."""
        return self._with(self.boxes.cuda(), self.masks.cuda())

    def to(self, *args: Any, **kwargs: Any) -> "Results":
        """Return a copy as `torch.Tensor.to` makes it."""
        return self._with(self.boxes.to(*args, **kwargs), self.masks.to(*args, **kwargs))

    def numpy(self) -> "Results":
        """Return a copy as arrays."""
        return self._with(self.boxes.numpy(), self.masks.numpy())

    def verbose(self) -> str:
        """Return one line: how many masks, and their scores."""
        scores = ", ".join(f"{score:.2f}" for score in _numpy(self.boxes.conf)[:5])
        more = ", ..." if len(self) > 5 else ""
        return f"{len(self)} mask{'s' * (len(self) != 1)}" + (f" with scores {scores}{more}" if len(self) else "")

    def plot(
        self,
        *,
        masks: bool = True,
        boxes: bool = True,
        labels: bool = True,
        conf: bool = True,
        line_width: int | None = None,
        img: np.ndarray | None = None,
    ) -> np.ndarray:
        """Draw the masks on the image.

        Args:
            masks: draw them, translucent, with their outline.
            boxes: draw the boxes.
            labels: write a name on each.
            conf: write the score as well.
            line_width: in pixels. Default: by the size of the image.
            img: (H, W, 3) uint8 BGR to draw on. Default: the image.

        Returns:
            (H, W, 3) uint8 BGR, a new array.
        """
        canvas = (self.orig_img if img is None else img).copy()
        line = line_width or max(1, round(sum(self.orig_shape) / 700))
        data = _numpy(self.masks.data)
        order = np.argsort([-mask.sum() for mask in data], kind="stable")  # small objects on top
        for i in order if masks else []:
            canvas[data[i]] = (0.5 * canvas[data[i]] + 0.5 * np.array(_colour(i))).astype(np.uint8)
            contours, _ = cv2.findContours(data[i].astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            cv2.drawContours(canvas, contours, -1, _colour(i), line, cv2.LINE_AA)
        for i in order:
            x1, y1, x2, y2 = (round(float(v)) for v in self.boxes.xyxy[i])
            if boxes:
                cv2.rectangle(canvas, (x1, y1), (x2, y2), _colour(i), line, cv2.LINE_AA)
            if labels:
                text = self.names[int(self.boxes.cls[i])] + (f" {float(self.boxes.conf[i]):.2f}" if conf else "")
                _tag(canvas, text, (x1, y1), _colour(i), line)
        return canvas

    def save(self, filename: str | Path | None = None, **plot_options: Any) -> str:
        """Write `plot()` to an image file.

        Args:
            filename: Default: `results_<name of the image>` in the current folder.
            **plot_options: for `plot`.

        Returns:
            The path.
        """
        filename = str(filename or f"results_{Path(self.path).stem}.jpg")
        if not cv2.imwrite(filename, self.plot(**plot_options)):
            raise OSError(f"filename must be in a folder that can be written to, got {filename!r}.")
        return filename

    def show(self, **plot_options: Any) -> None:
        """Open `plot()` in the system's image viewer."""
        from PIL import Image

        Image.fromarray(self.plot(**plot_options)[..., ::-1]).show()

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return plain data: one dict an object with name, class, confidence, box and segments.

        Args:
            normalize: fractions of the image instead of pixels.
            decimals: to round to.
        """
        corners = _numpy(self.boxes.xyxyn if normalize else self.boxes.xyxy)
        polygons = self.masks.xyn if normalize else self.masks.xy
        return [
            {
                "name": self.names[int(row[5])],
                "class": int(row[5]),
                "confidence": round(float(row[4]), decimals),
                "box": dict(zip(("x1", "y1", "x2", "y2"), _rounded(box, decimals), strict=True)),
                "segments": {"x": _rounded(polygon[:, 0], decimals), "y": _rounded(polygon[:, 1], decimals)},
            }
            for row, box, polygon in zip(_numpy(self.boxes.data), corners, polygons, strict=True)
        ]

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return `summary` as JSON."""
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def _with(self, boxes: Boxes, masks: Masks, low_res_logits: np.ndarray | None = None) -> "Results":
        logits = self.low_res_logits if low_res_logits is None else low_res_logits
        return Results(self.orig_img, self.path, self.names, boxes, masks, speed=self.speed, low_res_logits=logits)


def _numpy(data: Array) -> np.ndarray:
    return data if isinstance(data, np.ndarray) else data.detach().cpu().numpy()


def _rounded(values: np.ndarray, decimals: int) -> list[float]:
    return [round(float(value), decimals) for value in values]


def _polygon(mask: np.ndarray) -> np.ndarray:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return np.concatenate([np.empty((0, 2)), *(contour[:, 0] for contour in contours)]).astype(np.float32)


def _colour(index: int) -> tuple[int, int, int]:
    """Return a bright BGR colour, neighbours far apart: hues by the golden angle."""
    hsv = np.uint8([[[int(15 + index * 180 * 0.618) % 180, 200, 255]]])
    return tuple(int(v) for v in cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0])


def _tag(canvas: np.ndarray, text: str, corner: tuple[int, int], colour: tuple[int, int, int], line: int) -> None:
    """Write dark text on a coloured bar above a corner, inside the image."""
    scale = max(0.4, line / 3)
    (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, max(1, line // 2))
    x = min(corner[0], max(0, canvas.shape[1] - width))
    y = max(corner[1], height + baseline)
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width, y), colour, cv2.FILLED)
    cv2.putText(
        canvas,
        text,
        (x, y - baseline // 2 - 1),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        (20, 20, 20),
        max(1, line // 2),
        cv2.LINE_AA,
    )
