"""The tokenizer of a published folder: special tokens written in a text are text to every library.

Uprank encodes a literal `</s>` by its characters (contract 4). Other libraries take it for the token, so that
a passage could end itself. `split_special_tokens` in tokenizer_config.json turns that off in transformers and
all that load through it. Unigram vocabularies also hold `</s>` as an ordinary piece, which would match it
again; a last step of the pre-tokenizer splits exactly these words into letters.

This would harm FlagEmbedding with WordPiece: it decodes token ids to text and encodes that text, and would
read an unknown letter's `[UNK]` letter by letter. There the tokenizer stays as it was, and pairs with special
tokens in their texts are left out of the proofs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .json_files import editing

# Notes of transformers about the place it loaded a tokenizer from; no fact about the published one.
LEFTOVERS = ("name_or_path", "is_local", "local_files_only")
# Settings of the last call, which would override those of the next.
CALLS = ("max_length", "stride", "truncation_side", "truncation_strategy")
# Loads tokenizer.json as it is, in transformers 4 and 5; a model's own class rebuilds the pre-tokenizer.
AS_WRITTEN = "PreTrainedTokenizerFast"
UNKNOWN = "\N{OLD ITALIC LETTER A}"  # a letter that no vocabulary has


def finish_tokenizer(folder: Path, tokenizer: Any, max_tokens: int) -> None:
    """Change the files of a saved tokenizer so that other libraries cut and read as Uprank does.

    Args:
        folder: folder with `tokenizer_config.json`, and `tokenizer.json` if the tokenizer has one.
        tokenizer: the tokenizer that was saved.
        max_tokens: longest pair, at which the other libraries cut with `truncation=True`.
    """
    with editing(folder / "tokenizer_config.json") as config:
        config["model_max_length"] = max_tokens
        # The defaults of a class differ between versions of transformers, and from those of AS_WRITTEN.
        config["model_input_names"] = list(tokenizer.model_input_names)
        config["padding_side"] = tokenizer.padding_side
        for key in (*LEFTOVERS, *CALLS):
            config.pop(key, None)
        if not (folder / "tokenizer.json").is_file():
            return
        pieces: list[str] = []
        config.pop("split_special_tokens", None)
        if unknown_stays(tokenizer):
            config["split_special_tokens"] = True
            pieces = pieces_that_are_special(tokenizer)
        if pieces or config.get("tokenizer_class") == "TokenizersBackend":  # its name since transformers 5
            config["tokenizer_class"] = AS_WRITTEN
    with editing(folder / "tokenizer.json") as fast:
        fast["truncation"] = fast["padding"] = None
        if pieces:
            fast["pre_tokenizer"] = _with_split(fast["pre_tokenizer"], spelling(pieces))


def unknown_stays(tokenizer: Any) -> bool:
    """Return True if an unknown letter's token is read as that token again, with special tokens split."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokenizer(UNKNOWN, add_special_tokens=False)["input_ids"]:
        return True  # bytes know every letter
    ids = tokenizer(tokenizer.unk_token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return unknown in ids


def pieces_that_are_special(tokenizer: Any) -> list[str]:
    """Return special tokens that their own text still gives although special tokens are split.

    Without the unknown token, which may stay.
    """
    special = []
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        ids = tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if number in ids and number != tokenizer.unk_token_id:
            special.append(token)
    return special


def spelling(words: Sequence[str]) -> str:
    """Return a pattern that matches every single letter of these words, if the whole word is there.

    >>> re.findall(spelling(["</s>"]), "s </s> <s>")
    ['<', '/', 's', '>']
    """
    letters = []
    for word in words:
        for place, letter in enumerate(word):
            before, after = re.escape(word[:place]), re.escape(word[place + 1 :])
            letters.append(
                (f"(?<={before})" if before else "") + re.escape(letter) + (f"(?={after})" if after else "")
            )
    return "|".join(letters)


def _with_split(given: dict[str, Any] | None, pattern: str) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if given is not None:
        steps = given["pretokenizers"] if given["type"] == "Sequence" else [given]
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [*steps, split]}
