"""The lines of an input of any size: packed or not, from a file or a pipe, with whatever bytes.

Memory: one block of BLOCK bytes and the lines in it; a longer line is given up, not kept.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import select
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

BLOCK = 1 << 18
LONGEST = 1 << 18
PIPE_SECONDS = 10
_UNPACK: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
_MAGIC = max(map(len, _UNPACK))
_ZSTD = b"\x28\xb5\x2f\xfd"
_BOMS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Unreadable(Exception):
    """An input that cannot be read at all; the text is one line."""


def opened(name: str) -> tuple[IO[bytes], IO[bytes]]:
    """The bytes of an input, unpacked whatever its name, and as they lie there. Raises Unreadable."""
    try:
        number = os.open(name, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer is opened as well
        stream = os.fdopen(number, "rb")
    except OSError as error:
        raise Unreadable(f"{name}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise Unreadable(f"{name!a}: {error}") from None
    if stat.S_ISFIFO(os.fstat(number).st_mode):
        waiting = select.poll()
        waiting.register(number, select.POLLIN)
        if not waiting.poll(PIPE_SECONDS * 1000):
            stream.close()
            raise Unreadable(f"{name}: a pipe to which nobody has written for {PIPE_SECONDS} s")
    os.set_blocking(number, True)
    try:
        first = stream.peek(_MAGIC)[:_MAGIC]
    except OSError as error:
        stream.close()
        raise Unreadable(f"{name}: cannot be read: {error.strerror or error}") from None
    if first.startswith(_ZSTD):
        stream.close()
        raise Unreadable(f"{name}: packed by zstd; give what zstd -dc unpacks: zstd -dc {name} | ptelab import - ...")
    unpack = next((unpack for magic, unpack in _UNPACK.items() if first.startswith(magic)), None)
    return (unpack(stream) if unpack else stream), stream


class Lines:
    """The lines of one input, in blocks. `problem` says why it ended early, `share` how much of it has been read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = ""
        self.cut_off = False  # the last line has no end
        self.taken = 0  # bytes that have been read, as they are unpacked
        self._stream, self._raw = opened(name)
        self._size = os.fstat(self._raw.fileno()).st_size
        first = self._read()
        self._encoding = _BOMS.get(first[:2], "utf-8")
        self._first = first[2:] if first[:2] in _BOMS else first

    @property
    def share(self) -> float:
        """How much of the input has been read: 0 to 1, 0 of a pipe."""
        if self._raw.closed:
            return 1.0
        return min(1.0, self._raw.tell() / self._size) if self._size and self._raw.seekable() else 0.0

    def _read(self) -> bytes:
        try:
            block = self._stream.read(BLOCK)
            self.taken += len(block)
            return block
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            self.problem = f"{self.name}: ends early: {error}"
            return b""

    def sample(self) -> list[str]:
        """The first lines, which stay to be read."""
        return self._first[: 1 << 16].decode(self._encoding, "replace").splitlines()

    def close(self) -> None:
        """Give the input up."""
        self._stream.close()
        self._raw.close()

    def __iter__(self) -> Iterator[list[str]]:
        """The lines of each block, without their ends; a line that is too long is empty but for a NUL."""
        for text in self.texts():
            yield text[:-1].split("\n")

    def texts(self) -> Iterator[str]:
        """The lines of each block as one text, each with its end."""
        end = "\n".encode(self._encoding)
        rest, block, skipping = b"", self._first, False
        self._first = b""
        while block:
            whole, found, rest_of_block = block.rpartition(end)
            if found:
                text = (rest + whole + found).decode(self._encoding, "replace")
                text = text.replace("\r\n", "\n") if "\r" in text else text
                if skipping:
                    text, skipping = f"\0\n{text.partition(chr(10))[2]}", False
                yield text
                rest = rest_of_block
            elif not skipping:
                rest += block
            if len(rest) > LONGEST:
                rest, skipping = b"", True
            block = self._read()
        if rest or skipping:
            self.cut_off = True
            yield "\0\n" if skipping else f"{rest.decode(self._encoding, 'replace')}\n"
        self.close()
