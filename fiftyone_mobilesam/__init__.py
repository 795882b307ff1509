"""MobileSAM for FiftyOne: labels in, labels out.

    import fiftyone_mobilesam as fom
    mobilesam = fom.load_model()
    dataset.apply_model(mobilesam, label_field="masks", prompt_field="detections")

Importing this loads neither torch nor FiftyOne; `load_model` does.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import fiftyone as fo
    from fiftyone.core.collections import SampleCollection

    from fiftyone_mobilesam.export.report import ExportReport
    from fiftyone_mobilesam.jobs.progress import JobReport
    from fiftyone_mobilesam.zoo import MobileSAMModel
    from mobilesam import Results

__all__ = ["__version__", "export_masks", "label", "label_coco", "load_model", "to_detections"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mobilesam._version import __version__

        return __version__
    if name == "label_coco":
        from fiftyone_mobilesam.coco.job import label_coco

        return label_coco
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_model(
    weights: str | Path = "mobile_sam.pt",
    *,
    device: str | None = None,
    precision: str = "fp32",
    cache_dir: str | Path | None = None,
    verify: bool = True,
    **options: Any,
) -> "MobileSAMModel":
    """Load MobileSAM as a FiftyOne model. Works offline: the weights are in the package.

    Args:
        weights: "mobile_sam.pt" for the bundled weights, or a file in upstream's layout.
        device: where to run, such as "cpu" or "cuda:0". Default: a GPU if there is one.
        precision: "fp32"; "bf16" is faster, with masks that differ by about 1% of their area; "auto" for bf16 where
            the device multiplies it.
        cache_dir: folder for image embeddings, so that a second run over the same images costs the decoder's time
            only; 10 GiB at most, see `mobilesam.EmbeddingCache`.
        verify: test the model on a known image first.
        **options: defaults for every run, see `fiftyone_mobilesam.options.Options`; the keywords of `apply_model`
            come before them.

    Raises:
        CheckpointError: the weights do not load, or the model fails its self-test.
        MissingPackageError: FiftyOne is not installed.
    """
    import mobilesam

    try:
        from fiftyone_mobilesam.options import Options
        from fiftyone_mobilesam.zoo import MobileSAMModel
        from mobilesam.selftest import usable_precision
    except ImportError as error:
        raise mobilesam.MissingPackageError(
            f"fiftyone must be installed, got {error}. Run: pip install 'mobilesam[fiftyone]'"
        ) from error
    defaults = Options.parse(**options)
    sam = mobilesam.load_model(weights, device=device, verify=verify)
    if verify:
        precision = usable_precision(sam, precision)
    cache = None if cache_dir is None else mobilesam.EmbeddingCache(cache_dir)
    return MobileSAMModel(mobilesam.SamPredictor(sam, fast=True, precision=precision, cache=cache), defaults)


def label(
    samples: "SampleCollection",
    prompt_field: str | None = None,
    label_field: str = "masks",
    **keywords: Any,
) -> "JobReport":
    """Make masks for a dataset or view of any size. The same call again does what is missing, whatever happened.

    Labels are written sample by sample (of videos, frame by frame), each with a `fingerprint` of its prompts, the
    options, and the weights. A call makes the labels whose fingerprint is missing or differs, and no others: after a
    kill, a restart, a full disk, new prompts, or other options. Ids of output labels stay the same over all of that.
    Where only some prompts of a sample have changed the masks of the others stay as they are, with whatever was
    corrected by hand; a mask that was accepted in review stays, whatever the options, as long as its prompt does.

    Args:
        samples: images, groups (of which all image slices are taken), patches, videos, clips or frames.
        prompt_field: field whose labels are the prompts, with "frames." for videos. Default: segment everything.
        label_field: where the masks go, with "frames." for videos; the prompt field itself with `in_place=True`.
        **keywords: options of the masks, see `fiftyone_mobilesam.options.Options`, and of the job:
            job: name of the run of the dataset, `mobilesam_<job>`, that keeps its settings, state and failures.
            workers: processes on each device, each with its own model. Default: 1, in this process.
            devices: where to run, such as ["cuda:0", "cuda:1"]. Default: a GPU if there is one, else the CPU.
            output_dir: folder for masks as `<label field>/<sample id>/<label id>.png`, 0 and 255, which labels then
                name in `mask_path`; a sample's own folder holds nothing else. Default: masks are in the database.
            weights, precision, cache_dir: see `load_model`.
            max_pixels: images of more pixels are failures. Default: 178,956,970, where Pillow suspects an attack.
            overwrite: whether labels in `label_field` that no job wrote may be replaced. Default: FieldError.
            database_wait: seconds to wait for a database that is away. Default: 600.
            propagate: whether to carry each labeled object on through the frames of its video, or through the images
                in order; of `dataset.group_by("scene", order_by="number")` each group, and of a dataset of groups the
                slices of each. Labels of a track share `index` and `instance`. A later prompt with the same `instance`,
                or `label` and `index`, corrects the track. What was begun is computed again from its first image. In
                one process.
            drift: when a track ends: a `mobilesam.propagation.Drift`, or its settings by name.

    Returns:
        What was done, what was up to date, and what failed, with reasons; a failed sample is tried again at the next
        call.

    Raises:
        FieldError: a field that is missing or does not fit.
        CheckpointError: the weights do not load, or the model fails its self-test.
        JobError: the job had to stop: the disk is full, or the database stays away. What is done is kept.
    """
    from fiftyone_mobilesam.jobs.run import label as run

    return run(samples, prompt_field, label_field, **keywords)


def export_masks(
    samples: "SampleCollection", label_field: str, out: str | Path, *, format: str = "coco"
) -> "ExportReport":
    """Write the masks of a field into files that others read. Memory holds one sample at a time.

    Every label of the field is a mask in the output or is listed in the report with a reason. Masks may be in the
    database or on disk. The same labels give the same bytes.

    Args:
        samples: a dataset or view of images.
        label_field: field of Detections.
        out: file for COCO, folder for YOLO. `<out>.report.json` beside it has the report.
        format: "coco" for run lengths, which lose nothing; "coco-polygons" for polygons along the edges of the pixels,
            one a part, with holes joined to it by cuts without width: `pycocotools` draws the same mask; "yolo" for one
            outline a mask, parts joined and holes filled, with links to the images and `data.yaml`, ready for training.

    Returns:
        Counts in and out, failures, and for polygons parts, holes and area, in and out.

    Raises:
        FieldError: no field of Detections, or not of images.
        OSError: the output cannot be written.
        ValueError: another format.
    """
    from fiftyone_mobilesam.export.run import export_masks as run

    return run(samples, label_field, out, format=format)


def to_detections(result: "Results") -> "fo.Detections":
    """Return FiftyOne's labels of what `mobilesam.SAM` predicted in one image: one a mask, in order."""
    from fiftyone_mobilesam.labels import detections_of

    return detections_of(result)
