"""A JSON object whose lists are larger than memory should hold, read item by item."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mobilesam import AnnotationError

CHUNK = 1 << 20
LOOK_AHEAD = 3  # characters after a number that tell whether it goes on: 12 of 12e+3
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Item(NamedTuple):
    """A piece of the object."""

    key: str
    kind: str  # "value" for a whole value, "item" for one of a list, "start" and "end" for a list's brackets
    offset: int  # first byte of `text` in the file
    text: bytes  # JSON, as it stands in the file


def read_items(path: str | Path, lists: tuple[str, ...]) -> Iterator[Item]:
    """Read a file of one JSON object; of the keys in `lists` one item at a time."""
    try:
        with open(path, "rb") as file:
            yield from _Reader(file).items(lists)
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise AnnotationError(
            f"annotations must be a COCO file, a JSON object, got {str(path)!r}: {reason}. Export it again."
        ) from error


class _Reader:
    """The text around the place where the reader is.

    Bytes are read as Latin-1, which makes each one character: offsets are bytes, and JSON's own signs are the same.
    """

    def __init__(self, file):
        self._file = file
        self._text = (file.read(3).removeprefix(b"\xef\xbb\xbf") + file.read(CHUNK)).decode("latin-1")
        self._start = file.tell() - len(self._text)
        self._at = 0

    def items(self, lists: tuple[str, ...]) -> Iterator[Item]:
        """Yield the pieces of the object."""
        self._expect("{")
        more = self._peek() != "}" or not self._expect("}")
        while more:
            if self._peek() != '"':
                raise ValueError(f"a key was expected at byte {self._start + self._at}")
            key = json.loads(self._value()[1])
            self._expect(":")
            if key in lists and self._peek() == "[":
                yield from self._list(key)
            else:
                yield Item(key, "value", *self._value())
            more = self._expect(",}") == ","
        if self._peek():
            raise ValueError(f"there is more after the end of the object, at byte {self._start + self._at}")

    def _list(self, key: str) -> Iterator[Item]:
        yield Item(key, "start", self._start + self._at, b"[")
        self._expect("[")
        more = self._peek() != "]" or not self._expect("]")
        while more:
            yield Item(key, "item", *self._value())
            more = self._expect(",]") == ","
        yield Item(key, "end", self._start + self._at - 1, b"]")

    def _peek(self) -> str:
        """Return the next character that is not white space; "" at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _expect(self, signs: str) -> str:
        found = self._peek()
        if not found or found not in signs:
            place = f"byte {self._start + self._at}" if found else "the end of the file"
            raise ValueError(f"one of {' '.join(signs)} was expected at {place}, got {found!r}")
        self._at += 1
        return found

    def _value(self) -> tuple[int, bytes]:
        """Return the offset and text of the next value."""
        self._peek()
        while True:
            try:
                end = _DECODER.raw_decode(self._text, self._at)[1]
            except ValueError as error:
                if not self._more():
                    raise ValueError(f"no value at byte {self._start + self._at} ({error})") from error
                continue
            if len(self._text) - end < LOOK_AHEAD and self._more():
                continue
            offset, text = self._start + self._at, self._text[self._at : end]
            self._at = end
            return offset, text.encode("latin-1")

    def _more(self) -> bool:
        """Forget what was read and read on, at least as much as is kept; False at the end."""
        chunk = self._file.read(max(CHUNK, len(self._text) - self._at))
        if chunk:
            self._text = self._text[self._at :] + chunk.decode("latin-1")
            self._start += self._at
            self._at = 0
        return bool(chunk)
