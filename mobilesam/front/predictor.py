"""`Predictor`: Ultralytics' way to one image that is encoded once and asked about often."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mobilesam.front.model import MobileSAM
from mobilesam.front.results import Results
from mobilesam.modeling import Sam


class Predictor:
    """`SAM` with the interface of Ultralytics' `models.sam.Predictor`.

        predictor = Predictor(overrides={"conf": 0.25, "model": "mobile_sam.pt"})
        predictor.set_image("zidane.jpg")
        [result] = predictor(bboxes=[439, 437, 524, 709])

    Args:
        cfg: options as a dict, which `overrides` goes over.
        overrides: `model` and `device` as `SAM` takes them, and options of `SAM.predict` for each call.

    Attributes:
        args: the options by name, which hold for each call as they are then.
        sam: the `SAM`, which is made at its first use; None before.
    """

    def __init__(
        self,
        cfg: dict[str, Any] | None = None,
        overrides: dict[str, Any] | None = None,
        _callbacks: dict[str, list[Callable]] | None = None,
    ):
        self._callbacks = _callbacks or {}
        self._prompts: dict[str, Any] = {}
        self.args = SimpleNamespace(**{**(cfg or {}), **(overrides or {})})
        self.sam: MobileSAM | None = None

    def setup_model(self, model: str | Path | Sam | MobileSAM | None = None, verbose: bool = True) -> None:
        """Make the model.

        Args:
            model: weights, a `Sam` or a `SAM`. Default: the one of the overrides, else "mobile_sam.pt".
            verbose: changes nothing.

        Raises:
            CheckpointError: the weights do not load, or the model fails its self-test.
        """
        options = vars(self.args)
        model = model or options.get("model") or "mobile_sam.pt"
        sam = MobileSAM(model.model if isinstance(model, MobileSAM) else model, device=options.get("device"))
        for event, functions in self._callbacks.items():
            for function in functions:
                sam.add_callback(event, function)
        self.sam = sam

    def set_image(self, image: Any) -> None:
        """Encode an image once, for calls without a source. A path, an array (H, W, 3) BGR, a PIL image or a tensor.

        Raises:
            ImageError: not one image.
        """
        self._ready().set_image(image)

    def reset_image(self) -> None:
        """Forget the image."""
        self._ready().reset_image()

    def set_prompts(self, prompts: dict[str, Any]) -> None:
        """Keep prompts, `bboxes`, `points`, `labels`, `masks`, for calls without any."""
        self._prompts = dict(prompts)

    def add_callback(self, event: str, func: Callable[..., Any]) -> None:
        """Have a function called in each call. See `SAM.add_callback`."""
        self._ready().add_callback(event, func)

    def __call__(
        self,
        source: Any = None,
        model: str | Path | Sam | MobileSAM | None = None,
        stream: bool = False,
        bboxes: Any = None,
        points: Any = None,
        labels: Any = None,
        masks: Any = None,
        multimask_output: bool = False,
        **options: Any,
    ) -> list[Results] | Iterator[Results]:
        """Predict a mask for each prompt, or of everything if there is none. See `SAM.predict`.

        Args:
            source: None for the image of `set_image`, else for the `source` of the overrides.
            model: where there is none yet, what `setup_model` takes.
        """
        prompts = {"bboxes": bboxes, "points": points, "labels": labels, "masks": masks}
        if all(prompt is None for prompt in prompts.values()):
            prompts = self._prompts
        return self._ready(model).predict(
            source, stream=stream, **prompts, multimask_output=multimask_output, **options
        )

    def _ready(self, model: Any = None) -> MobileSAM:
        if self.sam is None:
            self.setup_model(model)
        self.sam.overrides |= vars(self.args)
        return self.sam
