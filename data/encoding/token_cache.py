"""Token ids on disk: each distinct text of a data set is tokenised once and kept for every later run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from ..groups import Group
from ..prompts import Prompts
from ..store import HASHES, SPANS, Facts, GroupStore, KeyedStore, find_entry, hash_texts, make_entry

if TYPE_CHECKING:
    from .pairs import PairEncoder


log = logging.getLogger(__name__)

VERSION = 1  # of the files of a store, and of how texts are tokenised
CHUNK = 8192  # texts a tokenizer call: it spreads them over all cores
TOKENS = "tokens.bin"


def prepare_groups(
    encoder: PairEncoder, groups: Sequence[Group], *, prompts: Prompts | None = None, build: bool = True
) -> None:
    """Let an encoder find the groups' texts, with a model's prompts, on disk; see `prepare_texts`."""

    def texts() -> Iterator[str]:
        return (text for group in groups for text in (prompts or Prompts()).group(group).prompted.texts)

    if isinstance(groups, GroupStore) and not prompts:
        prepare_texts(encoder, groups.texts(), groups.text_hashes(), build=build)
    else:
        prepare_texts(encoder, texts(), hash_texts(texts()), build=build)


def prepare_texts(
    encoder: PairEncoder, texts: Iterable[str], hashes: np.ndarray | None = None, *, build: bool = True
) -> None:
    """Let an encoder find these texts on disk, tokenised now unless an earlier run did it.

    The cache key holds the hash of the texts and of the tokenizer. Memory: about 50 bytes a text,
    whatever its length. A tokenizer written in Python has no content to hash: its texts are tokenised
    when needed, like those that are not prepared.

    Args:
        encoder: gets the store, and tokenises.
        texts: read twice unless `hashes` are given, so then not an iterator.
        hashes: `hash_text` of each text, shape (T, 2), uint64.
        build: False uses an existing store and makes none.
    """
    tokenizer = tokenizer_key(encoder.tokenizer)
    if tokenizer is None:
        return
    hashes = hash_texts(texts) if hashes is None else hashes
    if not len(hashes):
        return
    name = f"v{VERSION}-{tokenizer}-{xxhash.xxh3_128_hexdigest(np.ascontiguousarray(hashes).data)}"

    def make(folder: Path) -> tuple[Facts, bool]:
        _write(folder, iter(texts), hashes, encoder.tokenise)
        return {}, True

    entry = make_entry("tokens", name, make) if build else find_entry("tokens", name)
    if entry is not None:
        encoder.use(KeyedStore(entry.folder, TOKENS, np.int32, by_row=True))


def tokenizer_key(tokenizer: Any) -> str | None:
    """Return a name for everything that decides a text's tokens; None for a tokenizer written in Python."""
    import tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        return None
    backend.no_truncation()  # settings of the last call, which every call sets anew
    backend.no_padding()
    kind = f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}"
    special = [str(token) for token in tokenizer.all_special_tokens]
    about = repr((tokenizers.__version__, kind, special, tokenizer.all_special_ids, tokenizer.unk_token_id))
    return xxhash.xxh3_128_hexdigest((about + backend.to_str()).encode())


def _write(
    folder: Path, texts: Iterator[str], hashes: np.ndarray, tokenise: Callable[[list[str]], list[np.ndarray]]
) -> None:
    """Tokenise each distinct text once, in the order of first appearance, and sort by hash."""
    first = _first_places(hashes)  # (N,), in the order of the hashes
    is_first = np.zeros(len(hashes), dtype=bool)
    is_first[first] = True
    log.info("tokenising %s texts once; later runs find them in %s", f"{len(first):,}", folder.parent)
    lengths = np.zeros(len(first), dtype=np.int64)
    done, new = 0, compress(texts, is_first.data)
    with (folder / TOKENS).open("wb") as target:
        while chunk := list(islice(new, CHUNK)):
            tokens = tokenise(chunk)
            lengths[done : done + len(chunk)] = [len(ids) for ids in tokens]
            done += len(chunk)
            np.concatenate(tokens).astype(np.int32, copy=False).tofile(target)
    if done != len(first):
        raise RuntimeError(f"{len(first)} texts were to be tokenised, {done} came")
    stops = np.cumsum(lengths)
    rank = np.cumsum(is_first)[first] - 1  # place of each text in the file
    np.stack([stops[rank] - lengths[rank], stops[rank]], axis=1).tofile(folder / SPANS)
    np.stack([hashes[first, 0], hashes[first, 1]]).tofile(folder / HASHES)


def _first_places(hashes: np.ndarray) -> np.ndarray:
    """Return the first place of each distinct row, in the order of the rows, shape (N,)."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal rows the first comes first
    ordered = hashes[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order[new]
