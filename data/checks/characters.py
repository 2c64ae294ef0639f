"""Texts that were damaged before they came here: characters and lengths."""

from __future__ import annotations

import re

LONGEST = {"query": 10_000, "passage": 100_000}  # characters; 512 tokens are about 2,500 of English

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
# UTF-8 read as Windows-1252 has a first byte and another one; ftfy takes a millisecond a text to be sure.
_PERHAPS_DAMAGED = re.compile("[Â-ô][^\x00-\x7f]")


def text_problems(text: str, role: str) -> list[tuple[str, str]]:
    """Return kind and description of each defect of a text.

    >>> text_problems("a b", "query"), text_problems("cafÃ© au lait", "query")
    ([], [('broken characters', "'cafÃ© au lait' was decoded wrongly: it was 'café au lait'")])

    Args:
        text: a query or a passage.
        role: `query` or `passage`, which may be longer.
    """
    problems = []
    if len(text) > LONGEST[role]:
        problems.append(("long text", f"{role} of {len(text):,} characters, more than {LONGEST[role]:,}"))
    if control := _CONTROL.search(text):
        shown = repr(_around(text, control.start()))
        problems.append(("control characters", f"U+{ord(control[0]):04X} in {role} {shown}"))
    if (place := text.find("\ufffd")) >= 0:
        shown = repr(_around(text, place))
        problems.append(("broken characters", f"U+FFFD, where a character was lost, in {role} {shown}"))
    elif (right := _repaired(text)) != text:
        place = next((place for place in range(len(right)) if text[place] != right[place]), len(right))
        words = f"{_around(text, place)!r} was decoded wrongly: it was {_around(right, place)!r}"
        problems.append(("broken characters", words))
    return problems


def _repaired(text: str) -> str:
    """Return the text as it was before it was decoded wrongly; the text itself if nothing says so."""
    if text.isascii() or not _PERHAPS_DAMAGED.search(text):
        return text
    from ftfy import TextFixerConfig, fix_encoding
    from ftfy.chardata import UTF8_DETECTOR_RE

    if not UTF8_DETECTOR_RE.search(text):
        return text
    return fix_encoding(text, TextFixerConfig(fix_c1_controls=False))


def _around(text: str, place: int, width: int = 20) -> str:
    start, end = max(0, place - width), place + width
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
