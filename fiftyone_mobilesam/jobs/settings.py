"""What the masks of a job depend on, and the fingerprint of it that lies beside them."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from fiftyone_mobilesam.jobs.journal import Prompts, digest, digest_of_prompts
from fiftyone_mobilesam.options import Options
from mobilesam.propagation import Drift

FINGERPRINT_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """What every process of a job must know.

    Attributes:
        label_field: where masks go, without "frames.".
        options: of the masks.
        weights: file, or name of the bundled one.
        weights_sha256: of the tensors in it.
        precision: see `fiftyone_mobilesam.load_model`.
        output_dir: absolute folder for masks, or None to keep them in the database.
        max_pixels: images of more are refused.
        cache_dir: absolute folder for image embeddings, or None.
        drift: when a track ends; None if objects are not carried on from image to image.
    """

    label_field: str
    options: Options
    weights: str
    weights_sha256: str
    precision: str
    output_dir: str | None
    max_pixels: int
    cache_dir: str | None
    drift: Drift | None

    def mask_folder(self, unit_id: str) -> Path:
        """Return the folder for the mask files of a sample or frame."""
        return Path(self.output_dir, self.label_field, unit_id)

    @cached_property
    def digest(self) -> str:
        """What names all that masks depend on but their prompts."""
        options = {name: value for name, value in asdict(self.options).items() if name != "on_error"}
        cached = self.cache_dir is not None  # embeddings are rounded then, wherever they are kept
        settings = [FINGERPRINT_VERSION, options, self.weights_sha256, self.precision, self.output_dir, cached]
        return digest(settings + ([asdict(self.drift)] if self.drift else []))

    def fingerprint(self, prompts: Prompts) -> str:
        """Return what names the masks of these prompts: it changes exactly if one of them could."""
        return f"{self.digest}-{digest_of_prompts(prompts)}"

    def next_fingerprint(self, before: str, prompts: Prompts) -> str:
        """Return the fingerprint of a document in a sequence, which depends on all that came before."""
        return f"{self.digest}-{digest([before, digest_of_prompts(prompts)])}"
