"""The FiftyOne model: images and samples in, `fo.Detections` with masks out."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import fiftyone.core.models as fom
import numpy as np

from fiftyone_mobilesam.fields import FRAMES, Target
from fiftyone_mobilesam.labels import cleaned, fill, found_detection, new_detection
from fiftyone_mobilesam.loading import ImageLoader, LoadedImage, as_list
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.prompts import PromptRecord, prompt_records
from fiftyone_mobilesam.report import Failure, RunReport
from mobilesam import (
    ImageEmbedding,
    ImageError,
    MaskCrop,
    MobileSamError,
    PromptError,
    SamAutomaticMaskGenerator,
    SamPredictor,
)
from mobilesam.images import to_rgb

# A child of FiftyOne's logger: our lines look like FiftyOne's and obey the level chosen for them.
logger = logging.getLogger("fiftyone.mobilesam")


@dataclass(eq=False)
class Job:
    """One sample on its way through the model. `records` is None as soon as the sample has failed."""

    sample: Any
    records: list[PromptRecord] | None = None
    pixels: np.ndarray | None = None
    embedding: ImageEmbedding | None = None

    @property
    def needs_encoding(self) -> bool:
        """Whether there is anything to decode."""
        return any(record.prompt is not None for record in self.records or [])


class StopRun(BaseException):
    """Ends a run with `on_error="raise"`; its argument is the error. FiftyOne catches every `Exception` of a batch."""


class MobileSAMModel(fom.SupportsGetItem, fom.SamplesMixin, fom.TorchModelMixin, fom.Model):
    """MobileSAM for `dataset.apply_model(model, label_field=..., prompt_field=...)`; of everything without prompts.

    This combination of base classes is the one for which FiftyOne reads images in workers, hands them over in batches
    and passes the samples, with the labels that are the prompts, along.

    Args:
        predictor: the network, with what makes it fast.
        options: defaults for every run; the keywords of `apply_model` come before them.

    Attributes:
        last_run: the `RunReport` of the run that is going on or has ended.
    """

    def __init__(self, predictor: SamPredictor, options: Options | None = None):
        super().__init__()
        self.predictor = predictor
        self.config = options or Options()
        self.last_run = RunReport()
        self._options = self.config
        self._preprocess = True
        self._target: Target | None = None

    # ---- what FiftyOne asks of a model -----------------------------------------------------------------------------

    @property
    def media_type(self) -> str:
        """Images; FiftyOne feeds the frames of a video one by one."""
        return "image"

    @property
    def ragged_batches(self) -> bool:
        """False: images of different sizes come as a list, so batches are allowed."""
        return False

    @property
    def has_collate_fn(self) -> bool:
        """True: see `collate_fn`."""
        return True

    @staticmethod
    def collate_fn(batch: list[LoadedImage]) -> list[LoadedImage]:
        """Keep a batch a list."""
        return as_list(batch)

    @property
    def transforms(self) -> None:
        """None: workers only read, the model resizes."""
        return None

    @property
    def preprocess(self) -> bool:
        """Whether images come as arrays (True) or from our own loader (False). Both are understood at any time."""
        return self._preprocess

    @preprocess.setter
    def preprocess(self, value: bool) -> None:
        self._preprocess = value

    @property
    def using_gpu(self) -> bool:
        """Whether the network is on a GPU."""
        return self.predictor.device.type == "cuda"

    @property
    def _using_gpu(self) -> bool:
        return self.using_gpu

    def build_get_item(self, field_mapping: dict[str, str] | None = None) -> ImageLoader:
        """Return what FiftyOne's workers call for each sample. It holds no network."""
        return ImageLoader(field_mapping=field_mapping)

    @property
    def needs_fields(self) -> dict[str, str]:
        """The sample fields that hold the prompts."""
        return self._options.prompt_paths

    @needs_fields.setter
    def needs_fields(self, kwargs: dict[str, Any]) -> None:
        # FiftyOne passes all further keywords of `apply_model` here, and {} if there are none.
        self._options = Options.parse(self.config, **kwargs)

    def __enter__(self) -> "MobileSAMModel":
        self.last_run = RunReport()
        self._target = Target.find()
        if self._target is not None:
            self._target.check(self._options)
            self._target.prepare()
        if self._segments_everything:
            self._generator()  # fails on wrong options
            logger.info("There is no prompt field: segmenting everything")
        return self

    def __exit__(self, exc_type: type | None, error: BaseException | None, traceback: Any) -> None:
        target, self._target = self._target, None
        if target is not None and (written := self.last_run.done + self.last_run.empty):
            target.sync(written)
            target.declare()
        if isinstance(error, StopRun):
            raise error.args[0] from None
        log = logger.warning if self.last_run.failed else logger.info
        log("%s", self.last_run)

    @property
    def _segments_everything(self) -> bool:
        return not self._options.prompt_paths

    def _generator(self) -> SamAutomaticMaskGenerator:
        return SamAutomaticMaskGenerator(self.predictor, **self._options.everything)

    # ---- prediction ------------------------------------------------------------------------------------------------

    def predict(self, img: Any, sample: Any = None) -> fo.Label | None:
        """Predict for one image. See `predict_all`."""
        return self.predict_all([img], samples=None if sample is None else [sample])[0]

    def predict_all(self, imgs: Sequence[Any], samples: Sequence[Any] | None = None) -> list[fo.Label | None]:
        """Predict masks for the prompts of samples, or of everything in them if no prompt field is set.

        Args:
            imgs: per sample a `LoadedImage`, or an image as `mobilesam.images.to_rgb` takes it, arrays being RGB.
            samples: the samples or frames, which hold the prompts.

        Returns:
            Per sample `fo.Detections` with one detection a prompt, in order, or a thing found; with `in_place` the
            sample's own label; None where the image could not be read.

        Raises:
            ValueError: no samples.
        """
        if samples is None:
            raise ValueError(
                "samples must be given, got None: the prompts are in their fields. "
                'Call dataset.apply_model(model, label_field="masks", prompt_field="detections").'
            )
        try:
            jobs = [self._read(img, sample) for img, sample in zip(imgs, list(samples), strict=True)]
            self._encode([job for job in jobs if job.needs_encoding])
            return [self._finish(job) for job in jobs]
        except StopRun as stop:
            if self._target is None:  # called directly: there is no run to end
                raise stop.args[0] from None
            raise

    def _read(self, img: Any, sample: Any) -> Job:
        """Make a job of an image and the prompts in its sample's fields."""
        job = Job(sample)
        try:
            if not isinstance(img, LoadedImage):
                img = LoadedImage(to_rgb(img))
            if img.pixels is None:
                raise ImageError(img.failure)
            labels = {name: sample[path.removeprefix(FRAMES)] for name, path in self.needs_fields.items()}
            job.records = prompt_records(labels, self._options, original_hw=img.pixels.shape[:2])
            job.pixels = img.pixels
        except Exception as error:
            self._fail(job, error)
        return job

    def _encode(self, jobs: list[Job]) -> None:
        """Encode the images of jobs in one pass; one by one if that fails, so that the failure has one owner."""
        try:
            embeddings = self.predictor.encode_images([job.pixels for job in jobs])
            for job, embedding in zip(jobs, embeddings, strict=True):
                job.embedding = embedding
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs[0], error)
            else:
                for job in jobs:
                    self._encode([job])

    def _finish(self, job: Job) -> fo.Label | None:
        """Decode, make the output label and book the sample."""
        if job.records is None:
            return None
        everything = self._segments_everything
        try:
            label = self._everything(job) if everything else self._label(job, self._decode(job))
        except Exception as error:
            self._fail(job, error)
            return None
        found = label.detections if everything else job.records
        (self.last_run.done if found else self.last_run.empty).append(job.sample.id)
        return label

    def _everything(self, job: Job) -> fo.Detections:
        """Segment everything in the sample."""
        crops = [crop for crop in self._generator().generate_crops(job.pixels) if crop.mask.any()]
        self.last_run.masks += len(crops)
        original_hw = job.pixels.shape[:2]
        return fo.Detections(detections=[found_detection(crop, original_hw=original_hw) for crop in crops])

    def _decode(self, job: Job) -> list[MaskCrop | None]:
        """Return one mask a record, None where there is no prompt."""
        crops: list[MaskCrop | None] = [None] * len(job.records)
        usable = [i for i, record in enumerate(job.records) if record.prompt is not None]
        if usable:
            prompts = [job.records[i].prompt for i in usable]
            original_hw = job.embedding.original_hw
            candidates = self.predictor.predict_batch(
                prompts,
                image=job.embedding,
                regions=[job.records[i].region(self._options, original_hw=original_hw) for i in usable],
                multimask_output=self._options.multimask_output,
                best_only=True,
            )
            for i, (best,) in zip(usable, candidates, strict=True):
                crops[i] = cleaned(best, self._options.min_region_area)
        return crops

    def _label(self, job: Job, crops: list[MaskCrop | None]) -> fo.Label:
        """Return the sample's output label, and book each prompt."""
        original_hw = job.pixels.shape[:2]
        detections = []
        for record, crop in zip(job.records, crops, strict=True):
            if self._options.in_place:
                detection = record.label
                fill(detection, record, crop, self._options, original_hw=original_hw)
            else:
                detection = new_detection(record, crop, self._options, original_hw=original_hw)
            detections.append(detection)
            if detection["failure"] is None:
                self.last_run.masks += 1
            else:
                self._book(Failure(job.sample.id, record.label.id, _filepath(job.sample), detection["failure"]))
        if self._options.in_place:
            return job.sample[self._options.prompt_field.removeprefix(FRAMES)]
        if self._options.merge and self._target is not None:
            replaced = {detection["prompt_id"] for detection in detections}
            detections = self._target.labels_of_other_prompts(job.sample.id, replaced) + detections
        return fo.Detections(detections=detections)

    def _fail(self, job: Job, error: Exception) -> None:
        """Book that a sample gets nothing."""
        job.records = None
        reason = str(error) if isinstance(error, MobileSamError) else f"{type(error).__name__}: {error}"
        self._book(Failure(job.sample.id, None, _filepath(job.sample), reason), error)

    def _book(self, failure: Failure, error: Exception | None = None) -> None:
        self.last_run.failed.append(failure)
        if self._options.on_error == "raise":
            raise StopRun(error or PromptError(str(failure)))


def _filepath(sample: Any) -> str:
    """Return the file of a sample; a frame that is fed from its video has none of its own."""
    return getattr(sample, "filepath", None) or f"frame {getattr(sample, 'frame_number', '?')}"
