"""Training data of several files, given as a mapping in place of a path.

    {qrels: QRELS, run: RUN, queries: QUERIES, corpus: CORPUS, depth: 100}
    {triples: QIDPIDTRIPLES, queries: QUERIES, corpus: CORPUS}

`qrels` are judgments, TREC or BEIR; `run` is a TREC run, from whose top `depth` documents the negatives are
taken. Queries and corpus are `.jsonl` with `_id` and `text`, `.tsv` with id<TAB>text, or a BEIR folder; from
a BEIR folder as corpus the queries need not be given. Every file may be `.gz` or `.zst`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..groups import Collection, Group
from ..problems import Problems
from . import by_id
from .beir import collect_judged, find_texts
from .texts import FORMATS, text_format
from .trec_lines import is_qrels

KEYS = ("qrels", "run", "triples", "queries", "corpus", "depth")
DEPTH = 100  # of a run
_FORMS = "{qrels, run, queries, corpus, depth} or {triples, queries, corpus, depth}"

RoleFiles = Mapping[str, Any]


def describe_files(source: str | RoleFiles) -> str:
    """A source in one line, as it would be given on a command line.

    >>> describe({"qrels": "a.tsv", "corpus": "beir", "depth": 50})
    '{qrels: a.tsv, corpus: beir, depth: 50}'
    """
    if isinstance(source, str):
        return source
    return "{" + ", ".join(f"{key}: {value}" for key, value in source.items()) + "}"


def role_problems(source: RoleFiles) -> Problems:
    """What is wrong with keys, values and names of files; no file is read."""
    name = describe_files(source)
    found = [*_key_problems(source), *_value_problems(source)]
    if not found:
        for key in ("qrels", "run", "triples"):
            if key in source and not Path(source[key]).is_file():
                found.append(f"{key}: {source[key]}: no such file")
        for key in ("queries", "corpus"):
            found += _text_problems(key, source.get(key) or source["corpus"])
    return Problems(("file", f"{name}: {problem}") for problem in found)


def read_role_groups(
    source: RoleFiles, problems: Problems, *, need_negatives: bool = True, skipped: Problems | None = None
) -> Sequence[Group]:
    """Groups of a mapping, see `by_id.read_groups`; what is wrong is added to `problems`.

    Args:
        source: see the top of this file.
        problems: receives what is wrong, with the file and line.
        need_negatives: leave out queries without a negative.
        skipped: if given, receives what is wrong with single lines, which are left out.
    """
    files = _files(source, problems)
    if files is None:
        return []
    return by_id.join_groups(files, problems, need_negatives=need_negatives, skipped=skipped)


def read_role_judged(source: RoleFiles, problems: Problems) -> Collection | None:
    """The judged queries of a mapping with `qrels` over its whole corpus, in memory; a run is not read."""
    files = _files(source, problems)
    if files is None:
        return None
    if files.qrels is None:
        problems.add("file", f"{files.name}: triples are for training; judged queries need qrels")
        return None
    trec = is_qrels(files.qrels)
    return collect_judged(files.name, files.queries, files.corpus, files.qrels, problems, trec=trec)


def _files(source: RoleFiles, problems: Problems) -> by_id.Files | None:
    wrong = role_problems(source)
    problems += wrong
    if wrong:
        return None
    queries, corpus = (_text_file(key, source.get(key) or source["corpus"]) for key in ("queries", "corpus"))
    qrels, run, triples = (
        Path(source[key]) if key in source else None for key in ("qrels", "run", "triples")
    )
    depth = source.get("depth", DEPTH if run else None)
    return by_id.Files(describe_files(source), queries, corpus, qrels, run, triples, depth)


def _text_file(key: str, given: str) -> Path:
    """The file of a corpus or of queries; a BEIR folder has one of each."""
    path = Path(given)
    return find_texts(path, key) if path.is_dir() else path


def _key_problems(source: RoleFiles) -> list[str]:
    found = []
    for key in source:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            found.append(f"unknown key {key}; {hint}allowed is {_FORMS}")
    if ("qrels" in source) == ("triples" in source):
        found.append(f"give either qrels or triples; allowed is {_FORMS}")
    if "triples" in source and "run" in source:
        found.append("run: goes with qrels; triples have negatives of their own")
    if "depth" in source and not source.keys() & {"run", "triples"}:
        found.append("depth: is for a run or triples; give run")
    if "corpus" not in source:
        found.append("corpus: missing; give the file with the passages")
    if "queries" not in source and not _is_folder(source.get("corpus")):
        found.append("queries: missing; give the file with the queries (a BEIR folder as corpus has its own)")
    return found


def _value_problems(source: RoleFiles) -> list[str]:
    found = []
    for key, value in source.items():
        if key == "depth":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                found.append(f"depth: {value!r}; has to be a whole number above 0")
        elif key in KEYS and (not isinstance(value, str) or not value):
            found.append(f"{key}: {value!r}; has to be a path")
    return found


def _text_problems(key: str, given: str) -> list[str]:
    path = _text_file(key, given)
    if not path.is_file():
        return [f"{key}: {path}: no such file"]
    return [] if text_format(path) else [f"{key}: {path}: allowed is {FORMATS}, or a BEIR folder"]


def _is_folder(value: object) -> bool:
    return isinstance(value, str) and Path(value).is_dir()
