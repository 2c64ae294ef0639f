"""Values of the card in words and Markdown."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from ...data.prompts import Prompts
from ...eval.words import format_difference, format_estimate
from ..merging import Merged, Point
from ..weights import Calibrated

QUERY = "what is a reranker?"
PASSAGES = ("A reranker orders the passages that a first stage has found.", "The museum opens at nine.")
SHOWN = 240  # characters of a text in the card
_MARKED = re.compile(r"""[`|*\\]|\]\(|<[a-z/!?]|^#|&#?\w+;""", re.IGNORECASE)
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def span(text: Any) -> str:
    """Return a foreign name as code, which it cannot leave: not in a sentence and not in a table.

    >>> span("sci  fact"), span("a`|b")
    ('`sci fact`', '<code>a&#96;&#124;b</code>')
    """
    line = " ".join(str(text).split())
    if not set("`|") & set(line):
        return f"`{line}`"
    inner = re.sub(r"[^\w\s]", lambda found: f"&#{ord(found[0])};", line)
    return f"<code>{inner}</code>"


def inline(text: Any) -> str:
    """Return a sentence with foreign names in it as it is, or as plain text if it holds Markdown or HTML.

    >>> inline("on law: +0.1 [+0.0, +0.2], p < 0.05"), inline("a <b>")
    ('on law: +0.1 [+0.0, +0.2], p < 0.05', 'a &lt;b&gt;')
    """
    line = " ".join(str(text).split())
    return plain(line, len(line)) if _MARKED.search(line) else line


def named(names: Sequence[str]) -> str:
    """Return names as code in a sentence.

    >>> named(["a", "b", "c"])
    '`a`, `b` and `c`'
    """
    *first, last = [span(name) for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def plain(text: str, characters: int = SHOWN) -> str:
    """Return a text as one line of Markdown that shows it as it is, cut to some characters.

    >>> plain("a  <d> &amp;")
    'a &lt;d&gt; &amp;amp;'
    """
    line = " ".join(text.split())
    line = line if len(line) <= characters else line[:characters].rstrip() + "…"
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def calibration_line(calibrated: Calibrated) -> str:
    """Return one line for the terminal."""
    if calibrated.form == "none":
        return f"Not calibrated: {calibrated.reason}"
    return (
        f"Calibrated by {calibrated.form}: {calibrated.scale:.4f} * score {calibrated.shift:+.4f}; expected "
        f"calibration error {calibrated.error_before:.3f} before, {calibrated.error_held_out:.3f} on queries "
        "it was not fitted on"
    )


def code(value: Any) -> str:
    """Return a text or a list of texts as Python and JSON write it."""
    return json.dumps(value, ensure_ascii=False)


def example_pairs(prompts: Prompts) -> dict[str, str]:
    """Return query, passages and request of the snippets as code, with the model's prompts in them.

    >>> example_pairs(Prompts("query: "))["query"]
    '"query: what is a reranker?"'
    """
    read = prompts.pairs((QUERY, passage) for passage in PASSAGES)
    query, texts = read[0][0], [passage for _, passage in read]
    request = code({"query": query, "texts": texts, "raw_scores": True})
    return {"query": code(query), "passages": code(texts), "request": shlex.quote(request)}


def mixture_rows(merged: Merged) -> list[list[str]]:
    """Return a row for each mixture; the published one is bold."""
    rows = []
    for point in merged.points:
        values = [format_estimate(found) for found in (point.dev, *point.guards)]
        to_best = "best mixture on dev" if point.to_best is None else format_difference(point.to_best)
        allowed = "published" if point.chosen else "yes" if point.allowed else "no"
        cells = [mixture_words(point), *values, to_best, allowed]
        rows.append([f"**{cell}**" for cell in cells] if point.chosen else cells)
    return rows


def mixture_words(point: Point) -> str:
    """Return a mixture in words.

    >>> from uprank.eval.results import Estimate
    >>> mixture_words(Point(0.4, (), "sha256:", Estimate(0, 0, 0), ()))
    '0.4 tuned + 0.6 base'
    """
    tuned = f"mean of {len(point.checkpoints)} checkpoints" if point.checkpoints else "tuned"
    if point.share in (0, 1):
        return tuned if point.share else "base"
    return f"{point.share:g} {tuned} + {1 - point.share:.3g} base"
