"""The journal of a COCO job: what is done, image by image, in a file that only grows and survives being killed."""

import os
import time
import zlib
from pathlib import Path
from typing import NamedTuple

from mobilesam import AnnotationError

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None

HEADER = b"mobilesam journal 1\n"
SECONDS_BETWEEN_SYNCS = 1.0


class Entry(NamedTuple):
    """A record in the journal."""

    key: str  # of the prompt that it answers
    offset: int  # of its text in the file
    text: bytes  # JSON


class Journal:
    """Lines of `checksum image-key fingerprint`, and after tabs, `prompt-key record` for each prompt of the image.

    A line is written in one piece. One that is cut off by a kill, a full disk or a power failure does not have its
    checksum and is dropped; the next line for the same image replaces the earlier ones. The file is made if it is not
    there, and refused if another run is writing it, or it is something else. Use as a context manager.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.dropped = 0  # lines without their checksum
        self._lines: dict[str, tuple[int, int, str]] = {}
        self._synced = time.monotonic()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._lock()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def fingerprint(self, image_key: str) -> str | None:
        """Return what an image was done from, or None if it was not done."""
        return self._lines[image_key][2] if image_key in self._lines else None

    def entries(self, image_key: str) -> list[Entry]:
        """Return the records of an image, in order; none if it was not done."""
        if image_key not in self._lines:
            return []
        offset, length, _ = self._lines[image_key]
        entries, parts = [], self.text(offset, length).rstrip(b"\n").split(b"\t")
        offset += len(parts[0]) + 1
        for part in parts[1:]:
            key, text = part.split(b" ", 1)
            entries.append(Entry(key.decode(), offset + len(key) + 1, text))
            offset += len(part) + 1
        return entries

    def text(self, offset: int, length: int) -> bytes:
        """Return a part of the file."""
        os.lseek(self._file, offset, os.SEEK_SET)
        pieces = []
        while length and (piece := os.read(self._file, length)):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def append(self, image_key: str, fingerprint: str, records: list[tuple[str, bytes]]) -> None:
        """Write the records of an image, each a prompt key and JSON without tabs or line breaks; all or nothing."""
        head = f"{image_key} {fingerprint}".encode()
        body = b"\t".join([head, *(key.encode() + b" " + text for key, text in records)])
        line = b"%08x %s\n" % (zlib.crc32(body), body)
        offset = os.lseek(self._file, 0, os.SEEK_END)
        try:
            _write(self._file, line)
            if time.monotonic() - self._synced > SECONDS_BETWEEN_SYNCS:
                os.fsync(self._file)
                self._synced = time.monotonic()
        except OSError:
            os.ftruncate(self._file, offset)
            raise
        self._lines[image_key] = (offset, len(line), fingerprint)

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AnnotationError(
                f"out must be written by one run at a time, got {str(self.path)!r}, which another run holds. "
                "Wait for it, or give this one another out."
            ) from error

    def _load(self) -> None:
        """Find the lines, drop what is broken, and cut a torn end off."""
        with open(self.path, "rb") as file:
            header = file.readline(len(HEADER))
            if header != HEADER and not HEADER.startswith(header):
                raise AnnotationError(
                    f"job must name a journal of this program, got {str(self.path)!r}, which is another file. "
                    "Choose another name."
                )
            offset = len(HEADER)
            for line in file if header == HEADER else ():
                if not line.endswith(b"\n"):
                    self.dropped += 1
                    break
                self._index(line, offset)
                offset += len(line)
        if header != HEADER:
            os.ftruncate(self._file, 0)
            _write(self._file, HEADER)
        os.ftruncate(self._file, offset)

    def _index(self, line: bytes, offset: int) -> None:
        checksum, _, body = line[:-1].partition(b" ")
        head = body.partition(b"\t")[0].split(b" ")
        if checksum != b"%08x" % zlib.crc32(body) or len(head) != 2:
            self.dropped += 1
            return
        image_key, fingerprint = (part.decode() for part in head)
        self._lines[image_key] = (offset, len(line), fingerprint)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
