"""Named data sets: `hf://…` read by `datasets`, `mteb://…` by `mteb`.

`hf://DATASET`, `hf://DATASET:CONFIG` and `hf://DATASET:CONFIG:SPLIT` are rows of any shape that files may
have, see `columns.py`. DATASET is a hub id or a folder with Parquet or JSONL. `mteb://TASK`,
`mteb://TASK:SUBSET` and `mteb://TASK:SUBSET:SPLIT` are judged queries of a retrieval or reranking task.

Tested: folders of `datasets`, and the task classes of mteb 2.26.24 on data made by hand. Not tested for want
of a network: downloads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..groups import Collection, Group, passage_id
from ..problems import Problems
from ..store import keep_groups
from .fields import named_classes, plain_row
from .jsonl import as_collection
from .to_groups import RowTable
from .to_groups import iterate_tables as iterate_tables

SCHEMES = ("hf://", "mteb://")
OTHER_NAMES = {"dev": ("dev", "validation", "val"), "train": ("train",), "test": ("test",)}


def is_named(path: str) -> bool:
    """Return True if a path means a named data set and not a place on the disk."""
    return path.startswith(SCHEMES)


def read_named_groups(
    path: str,
    problems: Problems,
    *,
    split: str,
    need_negatives: bool = True,
    skipped: Problems | None = None,
) -> Sequence[Group]:
    """Return the groups of an `hf://` data set, in the cache; `where` is the path and the row from 1."""
    if not _is_rows(path, problems):
        return []
    data = _load(path, split, problems)
    if data is None:
        return []

    def make(found: Problems) -> Iterator[Group]:
        return iterate_tables([_table(path, data)], found, need_negatives=need_negatives)

    form = f"hf-{data._fingerprint}-{'train' if need_negatives else 'judged'}"
    files = [Path(file["filename"]) for file in data.cache_files]
    return keep_groups(form, files, make, problems, names=[path], skipped=skipped)


def iterate_named_groups(
    path: str, problems: Problems, *, split: str, need_negatives: bool = True
) -> Iterator[Group]:
    """Yield a group for each row of an `hf://` data set; nothing is cached or downloaded as a whole."""
    data = _load(path, split, problems, streaming=True) if _is_rows(path, problems) else None
    if data is not None:
        table = _table(path, data)
        yield from iterate_tables([table], problems, need_negatives=need_negatives, merge=False)


def read_named_judged(path: str, problems: Problems, *, split: str) -> Collection | None:
    """Return the judged queries of either kind; None if they cannot be read."""
    if path.startswith("mteb://"):
        return _mteb_collection(path, split, problems)
    data = _load(path, split, problems)
    tables = [] if data is None else [_table(path, data)]
    groups = iterate_tables(tables, problems, need_negatives=False)
    return dataclasses.replace(as_collection(Path(path), groups), path=path)


def _is_rows(path: str, problems: Problems) -> bool:
    if not path.startswith("hf://"):
        text = f"{path}: tasks of mteb are for evaluation; give it as data.test or data.dev"
        problems.add("file", text)
    return path.startswith("hf://")


def _table(path: str, data: Any) -> RowTable:
    """Return the rows of a split, read one at a time from its memory-mapped table or the download."""
    features = getattr(data, "features", None) or {}
    names = {column: one.names for column, one in features.items() if getattr(one, "names", None)}

    def rows(problems: Problems) -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for number, row in enumerate(data, 1):
                yield f"{path}:{number}", plain_row(named_classes(row, names))
        except Exception as error:  # a connection, a parser: each library has its own
            problems.add("file", f"{path}: cannot be read after row {number}: {_reason(error)}")
            return
        if not number:
            problems.add("file", f"{path}: no rows")

    return RowTable(path, rows, size=(getattr(data, "_data", None) and data._data.nbytes) or 0)


def _load(path: str, split: str, problems: Problems, *, streaming: bool = False) -> Any:
    """Return the split of the data set, a `datasets.Dataset`; None with a problem added."""
    from datasets import load_dataset

    name, config, given = _fields(path, problems)
    try:
        splits = load_dataset(name, config, streaming=streaming) if name else {}
    except Exception as error:  # a connection, a parser, a builder: each library has its own
        problems.add("file", f"{path}: cannot be loaded: {_reason(error)}")
        return None
    return splits[found] if (found := _split_of(path, list(splits), given, split, problems)) else None


def _reason(error: BaseException) -> str:
    """Return the first line of the message; `datasets` keeps the reason in the cause."""
    cause = error.__cause__ or error
    return str(cause).strip().split("\n")[0] or type(cause).__name__


def _fields(path: str, problems: Problems) -> tuple[str, str | None, str | None]:
    """Return name, config and split of `scheme://NAME[:CONFIG[:SPLIT]]`; empty ones are None."""
    name, *rest = path.partition("://")[2].split(":")
    if not name or len(rest) > 2:
        scheme = path.partition("://")[0]
        problems.add("row", f"{path}: allowed are {scheme}://NAME, {scheme}://NAME:CONFIG:SPLIT")
        return "", None, None
    config, given = [*rest, "", ""][:2]
    return name, config or None, given or None


def _split_of(
    path: str, present: list[str], given: str | None, wanted: str, problems: Problems
) -> str | None:
    """Return the given split, else the one named after the use of the data, else the only one."""
    names = (given,) if given else OTHER_NAMES.get(wanted, (wanted,))
    found = next((name for name in names if name in present), None)
    if found is None and not given and len(present) == 1:
        found = present[0]
    if found is None and present:
        problems.add("row", f"{path}: no split {names[0]!r}; there are {', '.join(present)}")
    return found


def _mteb_collection(path: str, split: str, problems: Problems) -> Collection | None:
    """Return a task's queries, corpus and judgments; its `top_ranked`, if any, are the candidates.

    Candidates keep the task's order, by which they are cut, unless it gives away the relevance.
    """
    try:
        import mteb
    except ImportError:
        problems.add("row", f'{path}: mteb is not installed: pip install "uprank[mteb]"')
        return None
    name, subset, given = _fields(path, problems)
    if not name:
        return None
    try:
        task: Any = mteb.get_task(name)
        task.load_data()
    except Exception as error:  # an unknown task, a connection, the task's own loader
        problems.add("row", f"{path}: cannot be loaded: {_reason(error)}")
        return None
    tables = getattr(task, "dataset", None)
    if not isinstance(tables, Mapping) or not _is_retrieval(tables):
        problems.add(
            "row", f"{path}: no retrieval or reranking task: it has no queries, corpus and judgments"
        )
        return None
    subset = subset or (next(iter(tables)) if len(tables) == 1 else "default")
    if subset not in tables:
        problems.add("row", f"{path}: no subset {subset!r}; there are {', '.join(tables)}")
        return None
    found = _split_of(path, list(tables[subset]), given, split, problems)
    return _collection(path, tables[subset][found], problems) if found else None


def _is_retrieval(tables: Mapping[str, Any]) -> bool:
    needed = {"queries", "corpus", "relevant_docs"}
    return all(
        isinstance(splits, Mapping)
        and all(isinstance(data, Mapping) and needed <= data.keys() for data in splits.values())
        for splits in tables.values()
    )


def _collection(path: str, data: Mapping[str, Any], problems: Problems) -> Collection | None:
    texts = {
        str(row["id"]): f"{row.get('title') or ''} {row.get('text') or ''}".strip() for row in data["corpus"]
    }
    qrels = {
        str(query): {str(doc): int(grade) for doc, grade in row.items()}
        for query, row in data["relevant_docs"].items()
    }
    queries = {str(row["id"]): row.get("text") for row in data["queries"] if str(row["id"]) in qrels}
    problems += [
        f"{path}: query {query}: not a text" for query, text in queries.items() if not _is_text(text)
    ]
    ranked = data.get("top_ranked") or {}
    pools = {
        str(query): [str(doc) for doc in docs] for query, docs in ranked.items() if str(query) in queries
    }
    asked = {doc for row in (*qrels.values(), *pools.values()) for doc in row}
    problems += [
        f"{path}: document {doc!r} is judged or ranked, and not in the corpus"
        for doc in sorted(asked - texts.keys())
    ]
    problems += [
        f"{path}: query {query!r} is judged, and has no text" for query in qrels.keys() - queries.keys()
    ]
    problems += [
        f"{path}: {kind} id {key!r} is empty or has white space, which a TREC run file cannot hold"
        for kind, ids in (("query", queries), ("document", texts))
        for key in ids
        if key.split() != [key]
    ]
    if pools and _knows_relevance(pools, qrels):
        pools = {query: sorted(docs, key=passage_id) for query, docs in pools.items()}
    if pools:
        pools |= {query: [] for query in queries.keys() - pools.keys()}
    return Collection(path, queries, texts, qrels, pools)


def _knows_relevance(pools: Mapping[str, list[str]], qrels: Mapping[str, Mapping[str, int]]) -> bool:
    """Return True if every pool begins with its relevant passages: it was made of positives and negatives.

    mteb does so with the older reranking sets, whose ids give it away, too.
    """
    for query, docs in pools.items():
        relevant = [qrels[query].get(doc, 0) > 0 for doc in docs]
        if relevant != sorted(relevant, reverse=True):
            return False
    return True


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
