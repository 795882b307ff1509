"""The official `mobile_sam.pt`, fetched with resume and checked."""

import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from tqdm import tqdm

from mobilesam.errors import DownloadError
from mobilesam.weights.files import BLOCK_BYTES, sha256_of

OFFICIAL_SHA256 = "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
# One file at several hosts; whichever answers, the hash decides.
OFFICIAL_URLS = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
    "https://huggingface.co/dhkim2810/MobileSAM/resolve/main/mobile_sam.pt",
    "https://github.com/ultralytics/assets/releases/download/v8.3.0/mobile_sam.pt",
)
TIMEOUT_S = 30


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
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(destination).expanduser() if destination else Path(cache, "mobilesam", "mobile_sam.pt")
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
