"""Weight files: the bundled one, the official one, and any checkpoint in upstream's layout. Knows dicts, not models.

Torch is loaded by what handles tensors, not before.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mobilesam.errors import CheckpointError, DownloadError, reason_of
from mobilesam.files import cache_folder, replacing
from mobilesam.layout import used_tensors

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 1 << 20
BUNDLED = Path(__file__).parent / "assets" / "mobile_sam.safetensors"
HEADS = BUNDLED.with_name("heads.safetensors")  # see `mobilesam/heads/`
SUFFIXES = (".safetensors", ".pt", ".pth")
COCO = BUNDLED.with_name("mobile_sam_coco.safetensors")  # a decoder for boxes on photographs, see PROVENANCE.md there
CARD, OVER = "model_card", "over"  # metadata: a card; the name of the weights that a file's tensors take the place in
NAMES = {f"{file.stem}{suffix}": file for file in (BUNDLED, COCO) for suffix in (".pt", ".pth", ".safetensors")}

OFFICIAL_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
# One file at several hosts; whichever answers, the hash decides.
OFFICIAL_URLS = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
    "https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt",
    "https://github.com/ultralytics/assets/releases/download/v8.3.0/mobile_sam.pt",
)
TIMEOUT_S = 30


def resolve(weights: str | Path) -> Path:
    """Return the file that `weights` names: that file if there is one, else the bundled weights for their own names.

    Those are "mobile_sam.pt", MobileSAM's, and "mobile_sam_coco.pt", whose decoder was fitted to boxes on photographs.

    Raises:
        CheckpointError: no such file.
    """
    path = Path(weights).expanduser()
    if path.is_file():
        return path
    if str(weights) in NAMES:
        return NAMES[str(weights)]
    what = "is a folder" if path.is_dir() else "does not exist"
    raise CheckpointError(
        f'weights must be a file, "mobile_sam.pt" or "mobile_sam_coco.pt", got {str(weights)!r}, which {what}. '
        'Use "mobile_sam.pt" for the bundled weights.'
    )


def absolute_weights(weights: str | Path) -> str:
    """Return what names the same weights from any folder: an absolute path, or the name of the bundled ones."""
    path = Path(weights).expanduser()
    return str(path.absolute()) if path.is_file() else str(weights)


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict in upstream's layout from a `.safetensors`, `.pt` or `.pth` file, onto the CPU.

    A dict nested under "model" or "state_dict" is unwrapped and a "module." prefix is taken off. Pickles are read with
    `weights_only=True`: a file that wants to run code is refused. A file of a decoder alone, as `mobile_sam_coco` is,
    comes with the rest of the weights that it was fitted to.

    Raises:
        CheckpointError: the file cannot be read, or holds something else than named tensors.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
            if (under := _metadata(path).get(OVER)) is not None:
                state = {**load_file(NAMES[under]), **{key: value.float() for key, value in state.items()}}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds, and the next line names each
        reason = reason_of(error).split("\n", 1)[0]
        raise CheckpointError(
            f"weights must be a state dict of tensors, got {str(path)!r}, which cannot be read "
            f"({reason}). Save it again with torch.save(model.state_dict(), path)."
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(
            f"weights must be a state dict of tensors, got {type(state).__name__} in {str(path)!r}. "
            "Save it again with torch.save(model.state_dict(), path)."
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_state(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors: that of the safetensors file without metadata that holds them."""
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def check_layout(state: dict[str, Tensor], expected: dict[str, Tensor], *, source: str) -> None:
    """Compare with a model's own state dict; a `CheckpointError` names what is missing, unexpected or another shape."""
    names, expected = used_tensors(state).keys(), used_tensors(expected)
    problems = {
        "missing": sorted(expected.keys() - names),
        "unexpected": sorted(names - expected.keys()),
        "of another shape": sorted(k for k in names & expected.keys() if state[k].shape != expected[k].shape),
    }
    found = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if found:
        raise CheckpointError(
            f"weights must be MobileSAM's (vit_t), got {source} with tensors {'; '.join(found)}. "
            "Checkpoints of vit_b, vit_l, vit_h and of other architectures do not fit."
        )


def save_checkpoint(state: dict[str, Tensor], path: str | Path, card: dict[str, Any] | None = None) -> None:
    """Write the state dict of a model, which upstream's own code loads strictly: 439 keys, the unused ones zero.

    A `.safetensors` file holds the card as metadata, a `.pt` or `.pth` file as one more entry of its archive.
    """
    import torch
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    text = None if card is None else json.dumps(card)
    with replacing(path) as unfinished:
        if Path(path).suffix == ".safetensors":
            unfinished.write_bytes(save(state, None if text is None else {CARD: text}))
            return
        with open(unfinished, "wb") as file:  # given a path, torch writes its name into it
            torch.save(state, file)
        if text is not None:
            with zipfile.ZipFile(unfinished, "a") as archive:
                archive.writestr(zipfile.ZipInfo(f"archive/{CARD}.json"), text)


def read_card(path: str | Path) -> dict[str, Any] | None:
    """Return the model card in a file of `save_checkpoint`, None where there is none."""
    path, text = Path(path), None
    if path.suffix == ".safetensors":
        text = _metadata(path).get(CARD)
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(name) if (name := f"archive/{CARD}.json") in archive.namelist() else None
    try:
        card = None if text is None else json.loads(text)
    except ValueError:
        return None  # somebody else's note under this name
    return card if isinstance(card, dict) else None


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def download(
    destination: str | Path | None = None,
    *,
    urls: Sequence[str] = OFFICIAL_URLS,
    sha256: str = OFFICIAL_SHA256,
    progress: bool = True,
) -> Path:
    """Fetch the official weights, unless they are there already.

    An interrupted download goes on where it stopped. The file appears under its name only when its hash is right.

    Args:
        destination: where to put it. Default: `mobilesam/mobile_sam.pt` in the user's cache folder.
        urls: where to look, in this order.
        sha256: what the file must be.
        progress: show a bar.

    Returns:
        The path of the file.

    Raises:
        DownloadError: no address answers, the file is another one, or another file is in its place.
    """
    path = Path(destination).expanduser() if destination else cache_folder() / "mobile_sam.pt"
    if path.exists():
        if (found := sha256_of(path)) == sha256:
            return path
        raise DownloadError(
            f"{path} must be the official weights (SHA-256 {sha256}), got {found}. "
            "Move that file away, or choose another destination."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    reasons = []
    for url in urls:
        try:
            _fetch(url, part, progress=progress)
        except (OSError, HTTPException) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
            continue
        if (found := sha256_of(part)) == sha256:
            part.replace(path)
            return path
        part.unlink()
        reasons.append(f"{url}: SHA-256 must be {sha256}, got {found}")
    raise DownloadError(
        "The official weights could not be downloaded:\n  " + "\n  ".join(reasons) + "\n"
        f'Offline, "mobile_sam.pt" means the bundled weights, which need no download. Or put the file at {path}.'
    )


def _fetch(url: str, part: Path, *, progress: bool) -> None:
    """Append the rest of a file to `part`, or start again where the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # there is no rest: the part is whole, or of another file
            return
        raise
    with response:
        resumed = response.status == 206
        have = have if resumed else 0
        left = response.headers.get("Content-Length")
        total = have + int(left) if left else None
        with (
            open(part, "ab" if resumed else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress) as bar,
        ):
            while block := response.read(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
    if total is not None and part.stat().st_size < total:
        raise OSError(f"the connection ended after {part.stat().st_size} of {total} bytes; run it again to go on")
