"""BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`.

Format: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

from pathlib import Path

from ..configs.errors import UserError
from .groups import Collection, Group
from .jsonl import read_rows
from .trec import read_beir_qrels


def find_qrels(path: Path, split: str, problems: list[str]) -> Path | None:
    """The qrels file that a path names: the file itself, or `qrels/SPLIT.tsv` of a folder."""
    if path.is_file():
        return path
    qrels = path / "qrels" / f"{split}.tsv"
    if qrels.is_file():
        return qrels
    present = sorted(file.name for file in (path / "qrels").glob("*.tsv"))
    if present:
        problems.append(
            f"{qrels}: not there; the folder has {', '.join(present)}: give one of these files instead"
        )
    else:
        problems.append(
            f"{path}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        )
    return None


def read_collection(path: Path, split: str, problems: list[str]) -> Collection | None:
    """Corpus, judged queries and judgments; what is wrong is added to `problems`.

    Args:
        path: the folder, or one file of its `qrels/`.
        split: which `qrels/SPLIT.tsv` of a folder.
        problems: receives one entry for each defect, with `file:line`.
    """
    qrels_file = find_qrels(path, split, problems)
    if qrels_file is None:
        return None
    folder = qrels_file.parent.parent
    queries = _read_texts(folder / "queries.jsonl", problems)
    passages = _read_texts(folder / "corpus.jsonl", problems)
    before = len(problems)
    qrels = _read_qrels(qrels_file, problems)
    if queries and passages and len(problems) == before:
        _check_ids(qrels_file, qrels, queries, passages, problems)
    judged = {query: text for query, text in queries.items() if query in qrels}
    return Collection(str(path), judged, passages, qrels, {})


def read_groups(path: Path, split: str, problems: list[str], *, need_negatives: bool = True) -> list[Group]:
    """One group a judged query: relevance above 0 is positive, 0 a negative, below 0 neither."""
    before = len(problems)
    collection = read_collection(path, split, problems)
    if collection is None or len(problems) > before:
        return []
    groups = []
    for query, text in collection.queries.items():
        row = collection.qrels[query].items()
        positives = tuple(collection.passages[doc] for doc, grade in row if grade > 0)
        negatives = tuple(collection.passages[doc] for doc, grade in row if grade == 0)
        shared = [doc for doc, grade in row if grade == 0 and collection.passages[doc] in positives]
        problems += [
            f"{path}: query {query}: a positive is also a negative: document {doc}" for doc in shared
        ]
        if positives and (negatives or not need_negatives):
            groups.append(Group(text, positives, negatives, where=f"{path}: query {query}"))
    if not any(grade > 0 for judged in collection.qrels.values() for grade in judged.values()):
        problems.append(f"{path}: no query has a relevant passage (a score above 0)")
    elif not groups:
        problems.append(
            f"{path}: no query has judged negatives; find hard ones first: "
            f"uprank mine data.train={path} output=train.jsonl"
        )
    return groups


def _read_texts(path: Path, problems: list[str]) -> dict[str, str]:
    """`_id` to text of a corpus or queries file; a title stands before the text, as in BEIR."""
    if not path.is_file():
        problems.append(f"{path}: no such file")
        return {}
    texts: dict[str, str] = {}
    for where, row in read_rows(path, problems):
        key, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if not isinstance(key, str) or not key:
            problems.append(f"{where}: `_id` has to be a string that is not empty")
        elif key.split() != [key]:
            problems.append(f"{where}: `_id` {key!r} has white space, which a TREC run file cannot hold")
        elif not isinstance(text, str) or not isinstance(title, str):
            problems.append(f"{where}: `text` (and `title`, if given) have to be strings")
        elif not (title + text).strip():
            problems.append(f"{where}: empty text")
        elif key in texts:
            problems.append(f"{where}: `_id` {key!r} stands twice in this file")
        else:
            texts[key] = f"{title} {text}".strip() if title else text
    return texts


def _read_qrels(path: Path, problems: list[str]) -> dict[str, dict[str, int]]:
    try:
        return read_beir_qrels(path)
    except UserError as error:
        problems += error.problems
        return {}


def _check_ids(
    path: Path,
    qrels: dict[str, dict[str, int]],
    queries: dict[str, str],
    passages: dict[str, str],
    problems: list[str],
) -> None:
    """Every id of the judgments has to be known; the lines are looked up only when one is not."""
    unknown_queries = qrels.keys() - queries.keys()
    unknown_passages = {doc for row in qrels.values() for doc in row} - passages.keys()
    if not unknown_queries and not unknown_passages:
        return
    # Not splitlines(), which also splits at characters that may stand within an id.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        fields = line.split("\t")
        if fields[0] in unknown_queries:
            problems.append(f"{path}:{number}: query id {fields[0]!r} is not in queries.jsonl")
        if len(fields) > 1 and fields[1] in unknown_passages:
            problems.append(f"{path}:{number}: document id {fields[1]!r} is not in corpus.jsonl")
