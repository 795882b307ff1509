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

    from fiftyone_mobilesam.zoo import MobileSAMModel
    from mobilesam import Results

__all__ = ["__version__", "load_model", "to_detections"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from mobilesam._version import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_model(
    weights: str | Path = "mobile_sam.pt",
    *,
    device: str | None = None,
    precision: str = "fp32",
    verify: bool = True,
    **options: Any,
) -> "MobileSAMModel":
    """Load MobileSAM as a FiftyOne model. Works offline: the weights are in the package.

    Args:
        weights: "mobile_sam.pt" for the bundled weights, or a file in upstream's layout.
        device: where to run, such as "cpu" or "cuda:0". Default: a GPU if there is one.
        precision: "fp32"; "bf16" is faster, with masks that differ by about 1% of their area; "auto" for bf16 where
            the device multiplies it.
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
    return MobileSAMModel(mobilesam.SamPredictor(sam, fast=True, precision=precision), defaults)


def to_detections(result: "Results") -> "fo.Detections":
    """Return FiftyOne's labels of what `mobilesam.SAM` predicted in one image: one a mask, in order."""
    from fiftyone_mobilesam.labels import detections_of

    return detections_of(result)
