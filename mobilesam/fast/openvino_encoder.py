"""The image encoder in OpenVINO, where that is installed: the same embedding as `FastEncoder`'s, sooner on most CPUs.

Its graph is made from the model's own weights when a machine first uses them, in about 12 s, and kept in the user's
cache folder. There is no second set of weights in the package.
"""

import logging
import os
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mobilesam.fast.products import fingerprint
from mobilesam.files import cache_folder
from mobilesam.modeling import Sam
from mobilesam.weights import sha256_of_state, used_tensors

if TYPE_CHECKING:
    import openvino

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
SWITCH = "MOBILESAM_OPENVINO"
SHAPE = (1, 3, 1024, 1024)

logger = logging.getLogger(__name__)


def is_wanted() -> bool:
    """Whether OpenVINO is there, and `MOBILESAM_OPENVINO=0` in the environment does not turn it off."""
    return os.environ.get(SWITCH) != "0" and find_spec("openvino") is not None


class OpenVinoEncoder:
    """The encoder of a `Sam`, on the CPU, with as many threads as torch has now.

    `dtype` is that of the products. Called as `FastEncoder` is.
    """

    def __init__(self, sam: Sam, dtype: torch.dtype = torch.float32):
        import openvino

        self._made_for = _conditions(sam, dtype)
        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self._run = core.compile_model(graph_of(sam, core), "CPU", {"PERFORMANCE_HINT": "LATENCY", **options})

    def fits(self, sam: Sam, dtype: torch.dtype) -> bool:
        """Whether the graph is still that of the model, in the precision wanted, with the threads there are."""
        return self._made_for == _conditions(sam, dtype)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, 3, 1024, 1024) normalised pixels -> image embeddings (B, 256, 64, 64)."""
        return torch.cat([torch.from_numpy(self._run(image[None].numpy())[0]) for image in pixels])


def _conditions(sam: Sam, dtype: torch.dtype) -> tuple:
    return fingerprint(sam.image_encoder), dtype, torch.get_num_threads()


def graph_of(sam: Sam, core: "openvino.Core") -> "openvino.Model":
    """Return the graph of a model's encoder, from the cache folder if this OpenVINO made it before."""
    import openvino

    weights = sha256_of_state(used_tensors(sam.image_encoder.state_dict()))
    path = cache_folder() / "openvino" / f"{weights[:16]}-{openvino.__version__.partition('-')[0]}" / "encoder.xml"
    try:
        return core.read_model(path)
    except RuntimeError:  # it is not there, or a part of it is not
        pass
    logger.info("OpenVINO takes in the image encoder. That is done once for these weights, in about 12 s.")
    model = convert(sam)
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent.parent) as folder:
            openvino.save_model(model, Path(folder, "new", path.name), compress_to_fp16=False)
            shutil.rmtree(path.parent, ignore_errors=True)
            Path(folder, "new").rename(path.parent)
    except (OSError, RuntimeError) as error:  # no room, or another process was sooner
        logger.info("The graph was not kept (%s); it is made again next time.", error)
    return model


@torch.no_grad()
def convert(sam: Sam) -> "openvino.Model":
    """Make the graph. Not with `openvino.convert_model`, which reports its use to the maker's server."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings():  # that the size of the image is taken as given, which it is; and of torch's plans
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(sam.image_encoder, torch.zeros(SHAPE), check_trace=False)
    frontend, decoder = FrontEndManager().load_by_framework("pytorch"), TorchScriptPythonDecoder(traced)
    model = frontend.convert(frontend.load(decoder))  # `decoder` must live until then
    model.reshape(list(SHAPE))
    return model
