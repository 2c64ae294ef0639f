"""Data of several files, given as a mapping in place of a path.

    {qrels: QRELS, run: RUN, queries: QUERIES, corpus: CORPUS, depth: 100}
    {triples: QIDPIDTRIPLES, queries: QUERIES, corpus: CORPUS}

`qrels` are judgments, TREC or BEIR; `run` is a TREC run, whose top `depth` documents give the negatives.
Queries and corpus are `.jsonl` with `_id` and `text`, `.tsv` with id<TAB>text, or a BEIR folder; a BEIR
folder as corpus also gives the queries. Every file may be `.gz` or `.zst`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

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
    """Return a source in one line, as on a command line.

    >>> describe_files({"qrels": "a.tsv", "corpus": "beir", "depth": 50})
    '{qrels: a.tsv, corpus: beir, depth: 50}'
    """
    if isinstance(source, str):
        return source
    return yaml.safe_dump(dict(source), default_flow_style=True, sort_keys=False, width=1 << 20).strip()


def given_files(path: str | RoleFiles) -> str | RoleFiles:
    """Return the mapping that a text of `describe_files` describes; everything else as it is.

    >>> given_files("{qrels: a.tsv, corpus: beir}"), given_files("a.tsv")
    ({'qrels': 'a.tsv', 'corpus': 'beir'}, 'a.tsv')
    """
    if isinstance(path, str) and path.startswith("{") and not Path(path).exists():
        try:
            found = yaml.safe_load(path)
        except yaml.YAMLError:
            return path
        return found if is_by_role(found) else path
    return path


def is_by_role(value: object) -> bool:
    """Return whether a value is a mapping of files by role, and not names with their paths."""
    if not isinstance(value, Mapping):
        return False
    return bool(value.keys() & {"qrels", "triples"}) and bool(value.keys() & {"corpus", "queries", "run"})


def role_problems(source: RoleFiles) -> Problems:
    """Return the problems of keys, values and file names; no file is read."""
    problems = [*_setting_problems(source)] or [*_file_problems(source)]
    return Problems(("file", f"{describe_files(source)}: {problem}") for problem in problems)


def read_role_groups(
    source: RoleFiles, problems: Problems, *, need_negatives: bool = True, skipped: Problems | None = None
) -> Sequence[Group]:
    """Return the groups of a mapping; see `by_id.join_groups`.

    Args:
        source: see the top of this file.
        problems: receives the problems, with file and line.
        need_negatives: leave out queries without a negative.
        skipped: if given, receives the problems of single lines, which are left out.
    """
    files = _files(source, problems)
    if files is None:
        return []
    return by_id.join_groups(files, problems, need_negatives=need_negatives, skipped=skipped)


def read_role_judged(source: RoleFiles, problems: Problems) -> Collection | None:
    """Return the judged queries of a mapping with `qrels` over its whole corpus, in memory; ignores a run."""
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
    queries, corpus = (_text_file(key, source) for key in ("queries", "corpus"))
    qrels, run, triples = (
        Path(source[key]) if key in source else None for key in ("qrels", "run", "triples")
    )
    depth = source.get("depth", DEPTH if run else None)
    return by_id.Files(describe_files(source), queries, corpus, qrels, run, triples, depth)


def _text_file(key: str, source: RoleFiles) -> Path:
    """Return the file of a corpus or of queries; a BEIR folder has one of each."""
    path = Path(source.get(key) or source["corpus"])
    return find_texts(path, key) if path.is_dir() else path


def _setting_problems(source: RoleFiles) -> Iterator[str]:
    for key in source:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            yield f"unknown key {key}; {hint}allowed is {_FORMS}"
    if ("qrels" in source) == ("triples" in source):
        yield f"give either qrels or triples; allowed is {_FORMS}"
    if "triples" in source and "run" in source:
        yield "run: goes with qrels; triples have their own negatives"
    if "depth" in source and not source.keys() & {"run", "triples"}:
        yield "depth: needs a run or triples; give run"
    corpus = source.get("corpus")
    if "corpus" not in source:
        yield "corpus: missing; give the file with the passages"
    if "queries" not in source and not (isinstance(corpus, str) and Path(corpus).is_dir()):
        yield "queries: missing; give the file with the queries (a BEIR folder as corpus has its own)"
    for key, value in source.items():
        if key == "depth":
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                yield f"depth: {value!r}; must be a whole number above 0"
        elif key in KEYS and (not isinstance(value, str) or not value):
            yield f"{key}: {value!r}; must be a path"


def _file_problems(source: RoleFiles) -> Iterator[str]:
    for key in ("qrels", "run", "triples"):
        if key in source and not Path(source[key]).is_file():
            yield f"{key}: {source[key]}: no such file"
    for key in ("queries", "corpus"):
        path = _text_file(key, source)
        if not path.is_file():
            yield f"{key}: {path}: no such file"
        elif not text_format(path):
            yield f"{key}: {path}: allowed is {FORMATS}, or a BEIR folder"
