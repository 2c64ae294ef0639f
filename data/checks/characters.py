"""Texts that something went wrong with before they came here: characters, and lengths."""

from __future__ import annotations

import re

LONGEST = {"query": 10_000, "passage": 100_000}  # characters; 512 tokens are about 2,500 of English

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
# UTF-8 that was read as Windows-1252: a first byte, and as many following bytes as it asks for.
_FOLLOWING = (
    "[\x80-\xbf" + "".join(bytes([code]).decode("cp1252", "ignore") for code in range(0x80, 0xA0)) + "]"
)
_MOJIBAKE = re.compile(f"[ÂÃÎÏÐÑ]{_FOLLOWING}|[à-ï]{_FOLLOWING}{{2}}|ð{_FOLLOWING}{{3}}")

_ALSO_MEANT = "àáãäåæçèéêëìíîï"


def text_problems(text: str, role: str) -> list[tuple[str, str]]:
    """Kind and description of what is odd about a text.

    >>> text_problems("a b", "query"), text_problems("cafÃ© au lait", "query")
    ([], [('broken characters', "'cafÃ© au lait' is UTF-8 read as Windows-1252: 'Ã©' was 'é'")])

    Args:
        text: of a query or a passage.
        role: `query` or `passage`, which may be longer.
    """
    found = []
    if len(text) > LONGEST[role]:
        found.append(("long text", f"{role} of {len(text):,} characters, more than {LONGEST[role]:,}"))
    control = _CONTROL.search(text)
    if control:
        shown = repr(_around(text, control.start()))
        found.append(("control characters", f"U+{ord(control[0]):04X} in {role} {shown}"))
    if text.isascii():
        return found
    place = text.find("\ufffd")
    if place >= 0:
        shown = repr(_around(text, place))
        found.append(("broken characters", f"U+FFFD, where a character was lost, in {role} {shown}"))
        return found
    wrong = {run[0]: right for run in _MOJIBAKE.finditer(text) if (right := _repaired(run[0]))}
    # One alone may be meant: the end of “café…” is what some Chinese character becomes.
    if len(wrong) > 1 or any(run[0] not in _ALSO_MEANT for run in wrong):
        run, right = next(iter(wrong.items()))
        shown = repr(_around(text, text.find(run)))
        what = f"{shown} is UTF-8 read as Windows-1252: {run!r} was {right!r}"
        found.append(("broken characters", what))
    return found


def _repaired(run: str) -> str | None:
    """The character that some characters were before they were decoded wrongly."""
    try:
        data = b"".join(bytes([ord(sign)]) if ord(sign) < 256 else sign.encode("cp1252") for sign in run)
        return data.decode("utf-8")
    except UnicodeError:
        return None


def _around(text: str, place: int, width: int = 20) -> str:
    start, end = max(0, place - width), place + width
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
