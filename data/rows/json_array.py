"""Rows of a JSON file that is one array of objects, read as they are needed."""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...configs.errors import UserError
from ..problems import Problems
from .fields import LONE_SURROGATE, has_lone_surrogate, kind_of_value
from .jsonl import BROKEN, NO_OBJECT
from .lines import read_blocks

_BLANK = re.compile(r"[ \t\r\n]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def is_array(path: Path) -> bool:
    """Whether the first character of a file that is no blank is `[`.

    Raises:
        UserError: a compressed file is damaged.
    """
    for block in read_blocks(path):
        begin = block.removeprefix(b"\xef\xbb\xbf").lstrip()
        if begin:
            return begin.startswith(b"[")
    return False


def read_array_rows(path: Path, name: str, problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
    """`(name:line, object)` of each element that is an object; note every other one.

    Raises:
        UserError: the array is broken: where the next element begins is not known.
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
                problems.add("encoding", f"{where}: not UTF-8")
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
    """The text of a file from which values are taken one after the other.

    Attributes:
        line: on which the text that is left begins.
    """

    def __init__(self, path: Path) -> None:
        self.line = 1
        self._blocks = read_blocks(path)
        self._decoder = getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._place, self._ended = "", 0, False
        self._more()
        self._text = self._text.removeprefix("\ufeff")

    def peek(self) -> str:
        """The next character that is no blank; nothing at the end."""
        while True:
            found = _BLANK.match(self._text, self._place)
            assert found is not None
            self._skip(found.end())
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def expect(self, character: str) -> None:
        """Pass over a character that is known to be the next."""
        assert self.peek() == character
        self._place += 1

    def element(self, name: str) -> tuple[Any, int, str]:
        """The next value, the line on which it begins, and its text."""
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
                # It may only be cut off: an error is then where the text ends, or where a string begins.
                cut = at > len(self._text) - 16 or reason.startswith("Unterminated")
                if cut and self._more(wanted):
                    wanted *= 2  # parsed anew each time: a long one a few times
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
        """Read on; whether there was more."""
        parts = [self._text[self._place :]]
        self._place = 0
        for _ in range(blocks):
            block = next(self._blocks, None)
            parts.append(self._decoder.decode(block or b"", final=block is None))
            if block is None:
                ended, self._ended = self._ended, True
                self._text = "".join(parts)
                return not ended
        self._text = "".join(parts)
        return True
