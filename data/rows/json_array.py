"""Rows of a JSON file that is one array of objects, read as they are needed."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..problems import NOT_UTF8, Problems
from .fields import LONE_SURROGATE, has_lone_surrogate, kind_of_value
from .jsonl import BROKEN, NO_OBJECT
from .lines import read_blocks

_BLANK = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def is_array(path: Path) -> bool:
    """Return True if the first character of a file, after blanks, is `[`.

    Raises:
        UserError: a compressed file is damaged.
    """
    for block in read_blocks(path):
        begin = block.removeprefix(b"\xef\xbb\xbf").lstrip()
        if begin:
            return begin.startswith(b"[")
    return False


def read_array_rows(path: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(name:line, object)` of each element that is an object; every other one is a problem.

    Raises:
        UserError: the array is broken, so that the next element cannot be found.
    """
    reader = _Elements(path)
    reader.expect("[")
    if reader.peek() == "]":
        reader.expect("]")
    else:
        while True:
            value, line, raw = reader.element(name)
            where = f"{name}:{line}"
            if _NOT_UTF8.search(raw):
                problems.add("encoding", f"{where}: {NOT_UTF8}")
            elif not isinstance(value, dict):
                problems.add(BROKEN, f"{where}: {NO_OBJECT}{kind_of_value(value)}")
            elif "\\u" in raw and has_lone_surrogate(value):
                problems.add("encoding", f"{where}: {LONE_SURROGATE}")
            else:
                yield where, value
            if reader.peek() != ",":
                break
            reader.expect(",")
        if reader.peek() != "]":
            raise UserError(
                f"{name}:{reader.line}: broken JSON (`,` or `]` is expected); nothing after it is read"
            )
        reader.expect("]")
    if reader.peek():
        raise UserError(f"{name}:{reader.line}: broken JSON (text after the end of the array)")


class _Elements:
    """Values of a JSON array, taken from a file's text one after the other.

    Attributes:
        line: line on which the rest of the text begins.
    """

    def __init__(self, path: Path) -> None:
        self.line = 1
        self._blocks = read_blocks(path)
        self._decoder = getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._place, self._ended = "", 0, False
        self._more()
        self._text = self._text.removeprefix("\ufeff")

    def peek(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            found = _BLANK.match(self._text, self._place)
            assert found is not None
            self._skip(found.end())
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def expect(self, character: str) -> None:
        """Skip a character that is known to be the next."""
        assert self.peek() == character
        self._place += 1

    def element(self, name: str) -> tuple[Any, int, str]:
        """Return the next value, the line on which it begins, and its text."""
        self.peek()
        line, wanted = self.line, 1
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self._text, self._place)
            except (ValueError, RecursionError) as error:
                reason, at = str(error), self._place
                if isinstance(error, json.JSONDecodeError):
                    reason, at = error.msg, error.pos
                    reason += f" on line {line + self._text.count(chr(10), self._place, at)}"
                # It may only be cut off: the error is then at the end of the text or the start of a string.
                cut = at > len(self._text) - 16 or reason.startswith("Unterminated")
                if cut and self._more(wanted):
                    wanted *= 2  # so that a long value is parsed again only a few times
                    continue
                raise UserError(f"{name}:{line}: broken JSON ({reason}); nothing after it is read") from error
            if end + 2 < len(self._text) or not self._more(wanted):  # a number may go on, as in 1e+9
                raw = self._text[self._place : end]
                self._skip(end)
                return value, line, raw

    def _skip(self, end: int) -> None:
        self.line += self._text.count("\n", self._place, end)
        self._place = end

    def _more(self, blocks: int = 1) -> bool:
        """Read on; False if the file had ended before."""
        had_ended = self._ended
        read = list(islice(self._blocks, blocks))
        self._ended = len(read) < blocks
        text = self._decoder.decode(b"".join(read), final=self._ended)
        self._text, self._place = self._text[self._place :] + text, 0
        return not had_ended
