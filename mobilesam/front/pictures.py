"""Pictures of results: to have, to keep and to look at."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mobilesam.errors import ImageError
from mobilesam.front.drawing import draw
from mobilesam.geometry.masks import to_numpy


class Pictures:
    """The half of `Results` that draws."""

    def plot(
        self,
        conf: bool = True,
        line_width: float | None = None,
        font_size: float | None = None,
        font: str | None = None,
        pil: bool = False,
        img: Any = None,
        kpt_radius: int | None = None,
        kpt_line: bool = True,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        probs: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
        color_mode: str = "class",
        txt_color: tuple[int, int, int] | None = None,
    ) -> np.ndarray | Image.Image:
        """Draw the masks on the image. The arguments are Ultralytics', in its order.

        Args:
            conf: write the score on each box.
            line_width: in pixels. Default: by the size of the image.
            font_size: the height of text in pixels. Default: by the width of lines.
            pil: return a PIL image, RGB.
            img: (H, W, 3) uint8 BGR to draw on. Default: the image.
            labels: write the name on each box.
            boxes: draw the boxes, with their text.
            masks: draw the masks, translucent, with their outline.
            show: open it in the system's image viewer.
            save: write it to `filename`.
            filename: Default: `results_<name of the image>.jpg` in the current folder.
            color_mode: "class" for the colour by `boxes.cls`, "instance" for the colour by the order here.
            font, kpt_radius, kpt_line, probs, txt_color: change nothing here.

        Returns:
            (H, W, 3) uint8 BGR, a new array.

        Raises:
            ValueError: another `color_mode`.
        """
        if color_mode not in ("class", "instance"):
            raise ValueError(f'color_mode must be "class" or "instance", got {color_mode!r}.')
        classes = [int(c) for c in to_numpy(self.boxes.cls)]
        names = [self.names[c] if labels else "" for c in classes]
        scores = [f"{float(score):.2f}" if conf else "" for score in to_numpy(self.boxes.conf)]
        picture = draw(
            self.orig_img if img is None else np.ascontiguousarray(to_numpy(img)),
            to_numpy(self.masks.data) if masks else None,
            to_numpy(self.boxes.xyxy),
            [" ".join(filter(None, pair)) for pair in zip(names, scores, strict=True)],
            colours=classes if color_mode == "class" else range(len(classes)),
            with_boxes=boxes,
            line_width=line_width,
            font_size=font_size,
        )
        if save:
            _write(picture, self._file(filename))
        if show:
            _image(picture).show()
        return _image(picture) if pil else picture

    def save(self, filename: str | Path | None = None, *args: Any, **kwargs: Any) -> str:
        """Write `plot()` to an image file.

        Args:
            filename: Default: `results_<name of the image>.jpg` in the current folder.
            *args, **kwargs: for `plot`.

        Returns:
            The path.
        """
        filename = self._file(filename)
        self.plot(*args, **{**kwargs, "save": True, "filename": filename})
        return filename

    def show(self, *args: Any, **kwargs: Any) -> None:
        """Open `plot()` in the system's image viewer."""
        self.plot(*args, **{**kwargs, "show": True})

    def _file(self, filename: str | Path | None) -> str:
        return str(filename or f"results_{self.stem}.jpg")


def _write(picture: np.ndarray, filename: str) -> None:
    if not cv2.haveImageWriter(filename):
        raise ImageError(f"filename must end in .png, .jpg or another image format's suffix, got {filename!r}.")
    if not cv2.imwrite(filename, picture):
        raise OSError(f"filename must be in a folder that can be written to, got {filename!r}.")


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(picture[..., ::-1]))
