"""BEIR folders: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`.

Format: https://github.com/beir-cellar/beir/wiki/Load-your-custom-dataset
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ...configs.errors import UserError
from ..groups import Collection, Group
from ..problems import ERROR, Problems
from . import by_id
from .texts import add_twice, read_texts
from .trec import read_beir_qrels, read_qrels
from .trec_lines import BEIR_HEADER, beir_row, iterate_rows, qrels_row


def read_beir_collection(path: Path, split: str, problems: Problems) -> Collection | None:
    """Return corpus, judged queries and judgments.

    Args:
        path: the folder, or one file of its `qrels/`.
        split: name of `qrels/SPLIT.tsv` in a folder.
        problems: receives one entry a defect, with `file:line`.
    """
    files = _find_files(path, split, problems)
    if files is None or files.qrels is None:
        return None
    return collect_judged(files.name, files.queries, files.corpus, files.qrels, problems)


def read_beir_groups(
    path: Path,
    split: str,
    problems: Problems,
    *,
    need_negatives: bool = True,
    skipped: Problems | None = None,
) -> Sequence[Group]:
    """Return one group a judged query: relevance above 0 is positive, 0 a negative, below 0 neither.

    They are in the cache (`GroupStore`), not in memory; see `by_id.join_groups`.
    """
    files = _find_files(path, split, problems)
    if files is None:
        return []
    return by_id.join_groups(files, problems, need_negatives=need_negatives, skipped=skipped)


def collect_judged(
    name: str, queries: Path, corpus: Path, qrels: Path, problems: Problems, *, trec: bool = False
) -> Collection:
    """Return judged queries over a corpus, in memory; the judgments are TREC's or BEIR's."""
    found = Problems()
    texts, passages = _read_texts(queries, found), _read_texts(corpus, found)
    problems += found.of(ERROR)
    judgments: dict[str, dict[str, int]] = {}
    try:
        judgments = read_qrels(qrels) if trec else read_beir_qrels(qrels)
    except UserError as error:
        problems += error.problems
    unknown = (
        judgments.keys() - texts.keys(),
        {d for row in judgments.values() for d in row} - passages.keys(),
    )
    notes = [*_empties(found, queries, corpus)]
    if texts and passages and any(unknown):
        notes += _unknown(qrels, judgments, unknown, trec, problems)
        judgments = {query: row for query, row in judgments.items() if query in texts}
    judged = {query: text for query, text in texts.items() if query in judgments}
    return Collection(name, judged, passages, judgments, {}, notes=tuple(notes))


def _empties(found: Problems, *files: Path) -> Iterator[str]:
    """Yield a note for each file with rows without text."""
    for file in files:
        rows = [text for text in found.of("empty document") if text.startswith(f"{file}:")]
        if rows:
            yield f"rows without text are left out: {len(rows):,}, the first is {rows[0]}"


def _unknown(
    qrels: Path,
    judgments: Mapping[str, Mapping[str, int]],
    unknown: tuple[set[str], set[str]],
    trec: bool,
    problems: Problems,
) -> Iterator[str]:
    """Yield notes on judgments whose query or document is not there; if all are so, it is a problem.

    Only now are the lines looked up.
    """
    queries, documents = unknown
    parse, header = (qrels_row, None) if trec else (beir_row, BEIR_HEADER)
    lines = [*iterate_rows(qrels, parse, Problems(), header=header)]
    lost = sum(grade > 0 and doc in documents for row in judgments.values() for doc, grade in row.items())
    for place, kind, ids, effect in (
        (1, "queries", queries, "they are left out"),
        (2, "documents", documents, f"relevant ones count as not found: {lost:,}"),
    ):
        named = [line for line in lines if line[place] in ids]
        if len(named) == len(lines):
            problems.add(
                "file", f"{qrels}:{named[0][0]}: {kind} of other files: no id is in the {kind} given"
            )
        elif named:
            first = f"{qrels}:{named[0][0]}: {named[0][place]!r}"
            yield f"judged {kind} that are not there: {len(ids):,}, the first is {first}; {effect}"


def find_texts(folder: Path, name: str) -> Path:
    """Return `corpus.jsonl` or `queries.jsonl` of a folder, plain or compressed; the plain name if absent."""
    plain = folder / f"{name}.jsonl"
    packed = (folder / f"{name}.jsonl{end}" for end in (".gz", ".zst"))
    return plain if plain.is_file() else next((path for path in packed if path.is_file()), plain)


def _find_files(path: Path, split: str, problems: Problems) -> by_id.Files | None:
    """Return the files of a folder, or of one file of its `qrels/`."""
    qrels = path if path.is_file() else path / "qrels" / f"{split}.tsv"
    if qrels.is_file():
        queries, corpus = (find_texts(qrels.parent.parent, name) for name in ("queries", "corpus"))
        return by_id.Files(str(path), queries, corpus, qrels)
    present = sorted(file.name for file in (path / "qrels").glob("*.tsv"))
    if present:
        names = ", ".join(present)
        problems.add("row", f"{qrels}: not there; the folder has {names}: {_advice(path, split)}")
    else:
        problems.add(
            "row", f"{path}: not a BEIR folder; it needs corpus.jsonl, queries.jsonl and qrels/{split}.tsv"
        )
    return None


def _advice(path: Path, split: str) -> str:
    """Say how to come by a missing split; never by the test queries, which prove the result."""
    if split != "dev":
        return "give one of these files instead"
    return f"part the training queries: uprank split data={path} output=FOLDER dev=0.1 test=0"


def _read_texts(path: Path, problems: Problems) -> dict[str, str]:
    """Return the texts of a file by id; see `read_texts`."""
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
