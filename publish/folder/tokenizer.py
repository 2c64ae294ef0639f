"""The tokenizer of a published folder: special tokens written in a text are text to every library.

Uprank encodes a literal `</s>` by its characters (contract 4). Other libraries take it for the token, whoever
wrote it: a passage could end itself. `split_special_tokens` in tokenizer_config.json turns that off in
transformers and whatever loads by it. Vocabularies of whole words (unigram) hold `</s>` as an ordinary piece,
too, so that it would come back by the model of the tokenizer; a last step of the pre-tokenizer then takes
exactly these words apart.

Not where it would do harm: FlagEmbedding makes text of token ids and ids of that text. Where an unknown
letter is `[UNK]`, which is then read letter by letter (WordPiece), the tokenizer stays as it was, and pairs
with special tokens in their texts are left out of the proofs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .json_files import editing

# What transformers notes about the place it loaded a tokenizer from; it says nothing about the published one.
LEFTOVERS = ("name_or_path", "is_local", "local_files_only")
# Settings of the last call, which would win over those of the next.
CALLS = ("max_length", "stride", "truncation_side", "truncation_strategy")
# Loads tokenizer.json as it is, in transformers 4 and 5; a class with a name of its own builds the
# pre-tokenizer anew.
AS_WRITTEN = "PreTrainedTokenizerFast"
UNKNOWN = "\N{OLD ITALIC LETTER A}"  # a letter that no vocabulary has


def finish_tokenizer(folder: Path, tokenizer: Any, max_tokens: int) -> None:
    """Change the files of a saved tokenizer such that other libraries cut and read as Uprank does.

    Args:
        folder: with `tokenizer_config.json`, and `tokenizer.json` where the tokenizer has one.
        tokenizer: that was saved.
        max_tokens: longest pair: what the others cut at when the caller says `truncation=True` alone.
    """
    with editing(folder / "tokenizer_config.json") as config:
        config["model_max_length"] = max_tokens
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
            config["model_input_names"] = list(tokenizer.model_input_names)  # that class has others
    with editing(folder / "tokenizer.json") as fast:
        fast["truncation"] = fast["padding"] = None
        if pieces:
            fast["pre_tokenizer"] = _with_split(fast["pre_tokenizer"], spelling(pieces))


def unknown_stays(tokenizer: Any) -> bool:
    """Whether what an unknown letter becomes is read as that again, also where special tokens are split."""
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown not in tokenizer(UNKNOWN, add_special_tokens=False)["input_ids"]:
        return True  # there is nothing unknown to bytes
    ids = tokenizer(tokenizer.unk_token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return unknown in ids


def pieces_that_are_special(tokenizer: Any) -> list[str]:
    """Special tokens which come out of their own text although special tokens are split.

    The unknown token stays: it is what it says.
    """
    found = []
    for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True):
        ids = tokenizer(token, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        if number in ids and number != tokenizer.unk_token_id:
            found.append(token)
    return found


def spelling(words: Sequence[str]) -> str:
    """A pattern of every single letter of these words, where the whole word stands around it.

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
