"""The FiftyOne model: images and samples in, `fo.Detections` with masks out. FiftyOne drives the loop."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom

from fiftyone_mobilesam.engine.item import Answer, Item, LoadedImage, Outcome, failed
from fiftyone_mobilesam.engine.labeller import Labeller
from fiftyone_mobilesam.engine.report import Report, RunStopped
from fiftyone_mobilesam.fields import FRAMES, Target
from fiftyone_mobilesam.image_loader import ImageLoader, PromptedImage
from fiftyone_mobilesam.keep import what_stays
from fiftyone_mobilesam.labels import failures_of, found_detections, implausible_of, labels_of
from fiftyone_mobilesam.options import PROMPT_FIELDS, Options
from fiftyone_mobilesam.prompts import LabelPrompt, label_prompts
from mobilesam import ImageError, PromptError, SamPredictor
from mobilesam.errors import reason_of
from mobilesam.images import to_rgb

logger = logging.getLogger("fiftyone.mobilesam")


class MobileSAMModel(fom.SupportsGetItem, fom.SamplesMixin, fom.TorchModelMixin, fom.Model):
    """MobileSAM for `dataset.apply_model(model, label_field=..., prompt_field=...)`; of everything without prompts.

    This combination of base classes is the one for which FiftyOne reads images in workers, hands them over in batches
    and passes the samples, with the labels that are the prompts, along.

    Args:
        predictor: the network, with what makes it fast.
        options: defaults for every run; the keywords of `apply_model` come before them.
        run: written into the attribute `run` of each label, so that the run can be found, shown and undone.
        stop: ends the run after the batch in which it is set.
        turn: held while a batch is worked on, if runs share the network.
        before_write: called with a sample and the label that will be written into it.

    Attributes:
        last_run: the `Report` of the run that is going on or has ended.
    """

    def __init__(
        self,
        predictor: SamPredictor,
        options: Options | None = None,
        *,
        run: str | None = None,
        stop: threading.Event | None = None,
        turn: AbstractContextManager | None = None,
        before_write: Callable[[Any, fo.Label], None] | None = None,
    ):
        super().__init__()
        self.predictor = predictor
        self.config = options or Options()
        self.last_run, self._written = Report(), []
        self.run, self.stop, self.turn = run, stop or threading.Event(), turn or nullcontext()
        self._options, self._says_on_error = self.config, False
        self.before_write = before_write
        self._target: Target | None = None

    # ---- what FiftyOne asks of a model -----------------------------------------------------------------------------

    media_type = "image"  # FiftyOne feeds the frames of a video one by one
    ragged_batches = False  # images of different sizes come as a list, so batches are allowed
    has_collate_fn = True  # see `collate_fn`
    transforms = None  # workers only read, the model resizes
    preprocess = True  # images come as arrays, or (False) from our own loader; both are understood at any time

    @staticmethod
    def collate_fn(batch: list[LoadedImage]) -> list[LoadedImage]:
        """Keep a batch a list: images have different sizes."""
        return batch

    @property
    def using_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        return self.predictor.device.type == "cuda"

    _using_gpu = using_gpu  # what FiftyOne reads

    def build_get_item(self, field_mapping: dict[str, str] | None = None) -> ImageLoader:
        """Return what FiftyOne's workers call for each sample, or the workers of a loop of your own.

        `dataset.to_torch(model.build_get_item({"prompt_field": "detections"}))` gives what `predict_all` takes.
        """
        return ImageLoader(field_mapping=field_mapping)

    @property
    def needs_fields(self) -> dict[str, str]:
        """The sample fields that hold the prompts."""
        return self._options.prompt_paths

    @needs_fields.setter
    def needs_fields(self, kwargs: dict[str, Any]) -> None:
        # FiftyOne passes all further keywords of `apply_model` here, and {} if there are none.
        self._options, self._says_on_error = Options.parse(self.config, **kwargs), "on_error" in kwargs

    def __enter__(self) -> "MobileSAMModel":
        self.last_run, self._written, self._target = Report(), [], None
        target = Target.find()
        if target is not None:
            self._options = self._asked_by(target)
            target.check(self._options)
            target.prepare()
            self.last_run.into = target.label_field
        if not self._options.prompt_paths:
            Labeller(self.predictor, self._options)  # fails on wrong options
            logger.info("There is no prompt field: segmenting everything")
        self._target = target
        self._check_merge()
        return self

    def __exit__(self, exc_type: type | None, error: BaseException | None, traceback: Any) -> None:
        target, self._target = self._target, None
        if target is not None and self._written:
            target.sync(self._written)
            target.declare()
        cause = error.args[0] if isinstance(error, RunStopped) and error.args else error
        self.last_run.end(cause)
        if cause is not error:
            raise cause from None
        (logger.info if self.last_run.ok else logger.warning)("%s", self.last_run.tick())

    # ---- prediction ------------------------------------------------------------------------------------------------

    def predict(self, img: Any, sample: Any = None) -> fo.Label | None:
        """Predict for one image. See `predict_all`."""
        return self.predict_all([img], samples=None if sample is None else [sample])[0]

    def predict_all(self, imgs: Sequence[Any], samples: Sequence[Any] | None = None) -> list[fo.Label | None]:
        """Predict masks for the prompts of samples, or of everything in them if no prompt field is set.

        Args:
            imgs: per sample a `LoadedImage`, or an image as `mobilesam.images.to_rgb` takes it, arrays being RGB.
            samples: the samples or frames, which hold the prompts. Without them the images must bring prompts along,
                see `build_get_item`.

        Returns:
            Per sample `fo.Detections` with one detection a prompt, in order, or a thing found; with `in_place` the
            sample's own label; None where the image could not be read.

        Raises:
            ValueError: no samples and no prompts, or `merge=True` where the field to merge with is not known.
        """
        if samples is None and not all(isinstance(img, PromptedImage) for img in imgs):
            raise ValueError(
                "samples must be given, got None: the prompts are in their fields. "
                'Call dataset.apply_model(model, label_field="masks", prompt_field="detections").'
            )
        if self.stop.is_set():
            raise RunStopped
        self._check_merge()
        try:
            with self.turn, self._prompted_by(imgs):
                return self._predict(imgs, [None] * len(imgs) if samples is None else list(samples))
        except RunStopped as stop:
            if self._target is None and stop.args:  # called directly: there is no run to end
                raise stop.args[0] from None
            raise

    def _predict(self, imgs: Sequence[Any], samples: list[Any]) -> list[fo.Label | None]:
        """Read all, encode in one pass what has prompts, then answer image by image."""
        read = [self._read(img, sample) for img, sample in zip(imgs, samples, strict=True)]
        labeller = Labeller(self.predictor, self._options)
        needed = [i for i, (image, _, asked) in enumerate(read) if any(a.prompt is not None for a in asked)]
        embeddings = dict(zip(needed, labeller.encode([read[i][0].pixels for i in needed]), strict=True))
        return [
            self._label(sample, *one, labeller, embeddings.get(i))
            for i, (sample, one) in enumerate(zip(samples, read, strict=True))
        ]

    def _read(self, img: Any, sample: Any) -> tuple[LoadedImage, list[LabelPrompt], list[Answer]]:
        """Return an image, the prompts in its sample's fields, and what they come to."""
        try:
            image = img if isinstance(img, LoadedImage) else LoadedImage(to_rgb(img))
            if image.pixels is None:
                return image, [], []
            values = self._values(image, sample)
            prompts = label_prompts(values, self._options)
            return image, prompts, [prompt.ask(image.pixels.shape[:2]) for prompt in prompts]
        except Exception as error:
            unread = {"pixels": None, "failure": reason_of(error)}
            return replace(img, **unread) if isinstance(img, LoadedImage) else LoadedImage(**unread), [], []

    def _label(
        self, sample: Any, image: LoadedImage, prompts: list, asked: list[Answer], labeller: Labeller, embedding: Any
    ) -> fo.Label | None:
        """Answer, make the output label and book the sample."""
        # A frame that is fed from its video has no path of its own.
        path = getattr(image if sample is None else sample, "filepath", None)
        item = Item(key=getattr(sample, "id", ""), image=path or f"frame {getattr(sample, 'frame_number', '?')}")
        try:
            if image.pixels is None:
                raise ImageError(image.failure)
            if isinstance(embedding, Exception):
                raise embedding
            of_image = {"original_hw": image.pixels.shape[:2], "run": self.run}
            if self._options.prompt_paths:
                made = labels_of(prompts, labeller.answers(image.pixels, asked, embedding), self._options, **of_image)
            else:
                made = found_detections(labeller.everything(image.pixels), **of_image)
            label, made = self._joined(image, sample, prompts, made)
            if self.before_write is not None:
                self.before_write(sample, label)
        except Exception as error:
            self._book(failed(item, reason_of(error)), error)
            return None
        failures = failures_of(item, made)
        self._written.append(item.key)
        counts = {"masks": len(made) - len(failures), "implausible": implausible_of(made)}
        self._book(Outcome(item.key, label, failures=failures, empty=not made, **counts))
        return label

    def _joined(
        self, image: LoadedImage, sample: Any, prompts: list[LabelPrompt], made: list[fo.Detection]
    ) -> tuple[fo.Label, list[fo.Detection]]:
        """Return the label of a sample, with what stays of the labels that it has, and what is new in it."""
        options = self._options
        if options.in_place and options.prompt_paths:
            return self._values(image, sample)["prompt_field"], made
        if not options.merge:
            return fo.Detections(detections=made), made
        ids = [{"_id": prompt.label.id} for prompt in prompts]
        stored = self._target.stored(sample.id)
        stays = what_stays(stored, {"": {"detections": ids}}, same_settings=False, hidden=None)
        kept = {prompt_id: fo.Detection.from_dict(label) for prompt_id, label in stays.labels.items()}
        before, after = ([fo.Detection.from_dict(label) for label in some] for some in (stays.before, stays.after))
        middle = [kept.get(prompt.label.id, new) for prompt, new in zip(prompts, made, strict=True)]
        new = [label for prompt, label in zip(prompts, made, strict=True) if prompt.label.id not in kept]
        return fo.Detections(detections=[*before, *middle, *after]), new

    def _values(self, image: LoadedImage, sample: Any) -> dict[str, fo.Label | None]:
        """Return what the prompt fields hold: in a run the sample's own labels, else what its image brings along."""
        if self._target is None and isinstance(image, PromptedImage):
            return image.labels
        return {name: sample[path.removeprefix(FRAMES)] for name, path in self.needs_fields.items()}

    def _asked_by(self, target: Target) -> Options:
        """Return the options with what the call says in FiftyOne's own words.

        `skip_failures=False` is `on_error="raise"`, unless the call says that too; `field_mapping` can name prompts.
        """
        options = {name: path for name, path in target.field_mapping.items() if name in PROMPT_FIELDS}
        if not target.skip_failures and not self._says_on_error:
            options["on_error"] = "raise"
        return Options.parse(self._options, **options)

    @contextmanager
    def _prompted_by(self, imgs: Sequence[Any]) -> Iterator[None]:
        """Outside of a run images say themselves which prompts they bring along."""
        before, names = self._options, {name for img in imgs for name in getattr(img, "labels", ())}
        if names and self._target is None:
            self._options = Options.parse(before, **{name: name for name in names})
        try:
            yield
        finally:
            self._options = before

    def _check_merge(self) -> None:
        if self._options.merge and self._target is None:
            raise ValueError(
                "merge=True must go with dataset.apply_model(model, label_field=...), got a call in which the field to "
                "merge with is not known. Leave it out and use a new field, or call fom.label, which keeps labels."
            )

    def _book(self, outcome: Outcome, error: Exception | None = None) -> None:
        self.last_run.total += 1
        self.last_run.book(outcome, log=False)  # the summary tells of them
        if self._options.on_error == "raise" and outcome.failures:
            raise RunStopped(error or PromptError(str(outcome.failures[0])))
