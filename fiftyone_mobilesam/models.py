"""The model for FiftyOne: a new one for a caller, or one network per process for the App.

The App executes the plugin's entry file again on every request, so what is kept is kept here.
"""

import threading
from pathlib import Path
from typing import Any

from fiftyone_mobilesam.engine.labeller import load_predictor
from fiftyone_mobilesam.options import Options
from fiftyone_mobilesam.zoo import MobileSAMModel
from mobilesam import SamPredictor
from mobilesam.weights import resolve, sha256_of

_predictors: dict[tuple[str, str | None, str], SamPredictor] = {}  # by hash of weights, device, precision
_loading = threading.Lock()
_turn = threading.Lock()


def load_model(
    weights: str | Path = "mobile_sam.pt",
    *,
    device: str | None = None,
    precision: str = "fp32",
    cache_dir: str | Path | None = None,
    verify: bool = True,
    **options: Any,
) -> MobileSAMModel:
    """Load MobileSAM as a FiftyOne model. Works offline: the weights are in the package.

    Args:
        weights: "mobile_sam.pt" for the bundled weights, "mobile_sam_coco.pt" for those whose decoder was fitted to
            boxes on photographs, or a file in upstream's layout, such as one that `fom.train` wrote.
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
    defaults = Options.parse(**options)  # before the weights: it is quick to be wrong
    predictor, _ = load_predictor(weights, device, precision, cache_dir, verify=verify)
    return MobileSAMModel(predictor, defaults)


def shared_model(
    device: str | None = None,
    precision: str = "fp32",
    *,
    weights: str = "mobile_sam.pt",
    **of_run: Any,
) -> MobileSAMModel:
    """Return a model for one run on the network that all runs of this process share, batch by batch in turn.

    The network is loaded at the first call, then kept until `release_models`. `of_run` is of the run: `run`, `stop` and
    `before_write`, as in `MobileSAMModel`.
    """
    with _loading:
        key = sha256_of(resolve(weights)), device, precision
        if key not in _predictors:
            _predictors[key], _ = load_predictor(weights, device, precision)
        return MobileSAMModel(_predictors[key], turn=_turn, **of_run)


def release_models() -> int:
    """Forget the networks of this process; return how many there were. Runs that are going on keep theirs."""
    with _loading:
        count = len(_predictors)
        _predictors.clear()
    return count
