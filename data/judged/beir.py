"""BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`.

Format: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...configs.errors import UserError
from ..groups import Collection, Group
from ..problems import Problems
from . import by_id
from .texts import add_twice, read_texts
from .trec import Qrels, read_beir_qrels, read_qrels
from .trec_lines import BEIR_HEADER, beir_row, iterate_rows, qrels_row


def find_qrels(path: Path, split: str, problems: Problems) -> Path | None:
    """The qrels file that a path names: the file itself, or `qrels/SPLIT.tsv` of a folder."""
    if path.is_file():
        return path
    qrels = path / "qrels" / f"{split}.tsv"
    if qrels.is_file():
        return qrels
    present = sorted(file.name for file in (path / "qrels").glob("*.tsv"))
    if present:
        problems.add(
            "row", f"{qrels}: not there; the folder has {', '.join(present)}: give one of these files instead"
        )
    else:
        problems.add(
            "row", f"{path}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        )
    return None


def read_beir_collection(path: Path, split: str, problems: Problems) -> Collection | None:
    """Corpus, judged queries and judgments; what is wrong is added to `problems`.

    Args:
        path: the folder, or one file of its `qrels/`.
        split: which `qrels/SPLIT.tsv` of a folder.
        problems: receives one entry for each defect, with `file:line`.
    """
    qrels = find_qrels(path, split, problems)
    if qrels is None:
        return None
    queries, corpus = (find_texts(qrels.parent.parent, name) for name in ("queries", "corpus"))
    return collect_judged(str(path), queries, corpus, qrels, problems)


def collect_judged(
    name: str, queries: Path, corpus: Path, qrels: Path, problems: Problems, *, trec: bool = False
) -> Collection:
    """Judged queries over a corpus, in memory, see `read_collection`; the judgments are TREC's or BEIR's."""
    texts, passages = _read_texts(queries, problems), _read_texts(corpus, problems)
    judgments = _read_qrels(qrels, problems, trec=trec)
    if texts and passages:
        problems += _unknown_ids(judgments, texts, passages, (queries.name, corpus.name), qrels, trec=trec)
    judged = {query: text for query, text in texts.items() if query in judgments}
    return Collection(name, judged, passages, judgments, {})


def read_beir_groups(
    path: Path,
    split: str,
    problems: Problems,
    *,
    need_negatives: bool = True,
    skipped: Problems | None = None,
) -> Sequence[Group]:
    """One group a judged query: relevance above 0 is positive, 0 a negative, below 0 neither.

    They are in the cache (`store.GroupStore`) and not in memory; see `by_id.read_groups`.
    """
    qrels = find_qrels(path, split, problems)
    if qrels is None:
        return []
    queries, corpus = (find_texts(qrels.parent.parent, name) for name in ("queries", "corpus"))
    files = by_id.Files(str(path), queries, corpus, qrels)
    return by_id.join_groups(files, problems, need_negatives=need_negatives, skipped=skipped)


def find_texts(folder: Path, name: str) -> Path:
    """`corpus.jsonl` or `queries.jsonl` of a folder, plain or compressed; the plain name if none is there."""
    plain = folder / f"{name}.jsonl"
    packed = (folder / f"{name}.jsonl{end}" for end in (".gz", ".zst"))
    return plain if plain.is_file() else next((path for path in packed if path.is_file()), plain)


def _read_texts(path: Path, problems: Problems) -> dict[str, str]:
    """Id to text of a file, see `corpus.read_texts`."""
    if not path.is_file():
        problems.add("file", f"{path}: no such file")
        return {}
    texts: dict[str, str] = {}
    for where, key, text in read_texts(path, problems):
        if key in texts:
            add_twice(problems, where, key)
        else:
            texts[key] = text
    return texts


def _read_qrels(path: Path, problems: Problems, *, trec: bool) -> Qrels:
    try:
        return read_qrels(path) if trec else read_beir_qrels(path)
    except UserError as error:
        problems += error.problems
        return {}


def _unknown_ids(
    qrels: Qrels,
    queries: dict[str, str],
    passages: dict[str, str],
    names: tuple[str, str],
    path: Path,
    *,
    trec: bool,
) -> list[str]:
    """Every id of the judgments has to be known; the lines are looked up only when one is not."""
    unknown_queries = qrels.keys() - queries.keys()
    unknown_passages = {doc for row in qrels.values() for doc in row} - passages.keys()
    if not unknown_queries and not unknown_passages:
        return []
    found = []
    parse, header = (qrels_row, None) if trec else (beir_row, BEIR_HEADER)
    for line, query, document, _ in iterate_rows(path, parse, Problems(), header=header):
        if query in unknown_queries:
            found.append(f"{path}:{line}: query id {query!r} is not in {names[0]}")
        if document in unknown_passages:
            found.append(f"{path}:{line}: document id {document!r} is not in {names[1]}")
    return found
