"""`uprank mine`: hard negatives for queries that have relevant passages.

Also runs under torchrun and `accelerate launch -m uprank.train.mine`: each rank takes its share of the
queries, and the file is the same for every number of ranks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...configs.command import run
from ...configs.errors import UserError, collect
from ...configs.schema_data import MineCommand
from ...configs.validate import (
    ON_ERROR,
    above_zero,
    model_problems,
    one_of,
    output_problems,
    seed_problems,
)
from ...data.groups import Collection

if TYPE_CHECKING:
    from ...data.problems import Problems
    from ...eval.processes import Share
    from ...model.reranker import Reranker
    from .search import Search, Sources

BLOCK = 1024  # queries searched at a time


def mine(settings: MineCommand) -> None:
    """Write JSONL groups: each query with its positives and negatives drawn from its best passages.

    A negative is never judged relevant for its query and never equal, ignoring case, whitespace and
    punctuation, to a positive, to the query or to another negative. The same seed writes the same bytes. The
    same command continues a killed run.

    Raises:
        UserError: wrong data or settings, or the output exists.
    """
    from ...data.judged import given_files
    from ...data.origin import write_origin
    from ...eval.processes import join
    from ...model.reranker import choose_device
    from .output import mining_summary

    sources = _read(settings)
    # Without an accelerator the ranks find each other only if told that they run on CPUs.
    device = "cpu" if choose_device(settings.teacher.device).type == "cpu" else settings.teacher.device
    processes = join(device)
    if settings.threads:
        import torch

        torch.set_num_threads(settings.threads)
    entries = _mine(settings, sources, processes.share, processes.device)
    if entries is None:
        return
    given = settings.data.train
    write_origin(
        Path(settings.output), given_files(given) if isinstance(given, str) else given, "uprank mine"
    )
    sys.stderr.write(mining_summary(Path(settings.output), settings, entries, sources.left_out))
    if not any(entry["negatives"] for entry in entries):
        raise UserError(f"{settings.data.train}: no query has both a relevant passage and a negative")


def _read(settings: MineCommand) -> Sources:
    """Check the settings and read the data; all problems at once, before any model is loaded."""
    from ...data.judged import describe_files
    from ...data.problems import Problems, require
    from ...data.read import read_judged
    from .search import compares, make_sources, read_corpus

    problems = Problems()
    problems += _setting_problems(settings)
    collection = None
    if isinstance(settings.data.train, list):
        collection = _together(settings, problems)
    else:
        settings.data.train = describe_files(settings.data.train)
        skip = settings.data.on_error == "skip"
        collection = read_judged(settings.data.train, problems, split="train", skip=skip)
    corpus = read_corpus(Path(settings.corpus), problems) if settings.corpus else None
    if collection is not None and collection.pools and corpus is None:
        problems.add(
            "file", f"{settings.data.train}: rows have no corpus to search; set corpus=PASSAGES.jsonl"
        )
    require(problems)
    assert collection is not None  # a collection that could not be read left a problem
    sources = make_sources(collection, corpus, compared=compares(settings))
    if not sources.queries:
        raise UserError(f"{settings.data.train}: no query has both a relevant passage and a negative")
    return sources


def _together(settings: MineCommand, problems: Problems) -> Collection | None:
    """Return the queries of several files of rows, which search one `corpus`."""
    from ...data.read import read_judged

    parts, skip = [], settings.data.on_error == "skip"
    for path in settings.data.train:
        part = read_judged(path, problems, split="train", skip=skip)
        if part is not None and not part.pools:
            problems.add("file", f"{path}: has a corpus of its own; mine it by itself")
        parts += [part] if part is not None else []
    if problems or not parts:
        return None
    names = [f"{number}/{{}}".format for number in range(len(parts))]  # rows are numbered in each file
    return Collection(
        ", ".join(map(str, settings.data.train)),
        {
            name(key): text
            for name, part in zip(names, parts, strict=True)
            for key, text in part.queries.items()
        },
        {key: text for part in parts for key, text in part.passages.items()},
        {name(key): row for name, part in zip(names, parts, strict=True) for key, row in part.qrels.items()},
        {name(key): row for name, part in zip(names, parts, strict=True) for key, row in part.pools.items()},
    )


def _setting_problems(settings: MineCommand) -> list[str]:
    from ...eval.retrieval import locate_bi_encoder
    from ...model.locate import locate, require_on_hub
    from ...model.reranker import choose_device
    from .negatives import SAMPLINGS
    from .search import RETRIEVERS, compares

    problems = one_of("data.on_error", settings.data.on_error, ON_ERROR)
    if not Path(settings.retriever).is_file():
        problems += one_of("retriever", settings.retriever, [*RETRIEVERS, "the path of a TREC run"])
    problems += one_of("sampling", settings.sampling, SAMPLINGS)
    teacher = settings.teacher
    counts = {"depth": settings.depth, "negatives": settings.negatives, "threads": settings.threads}
    counts |= {"dense.batch_size": settings.dense.batch_size}
    counts |= {"teacher.tokens_per_batch": teacher.tokens_per_batch}
    problems += above_zero(counts) + seed_problems(settings.seed)
    if not 0 <= settings.skip < settings.depth:
        problems.append(f"skip={settings.skip}: must be 0 or more and below depth={settings.depth}")
    near = settings.near_duplicates
    if near is not None and not 0 < near <= 1:
        problems.append(f"near_duplicates={near}: allowed is above 0 to 1, or null")
    for name in ("absolute_margin", "relative_margin", "max_score"):
        value = getattr(settings, name)
        if value is not None and not math.isfinite(value):
            problems.append(f"{name}={value}: allowed are numbers, or null")
    if (settings.retriever == "random" or Path(settings.retriever).is_file()) and compares(settings):
        problems.append(
            f"retriever={settings.retriever}: has no scores for absolute_margin, relative_margin or max_score"
        )
    if settings.retriever in ("dense", "hybrid"):
        collect(problems, locate_bi_encoder, settings.dense)
    problems += [problem.replace("model.", "teacher.", 1) for problem in model_problems(teacher)]
    problems += _renamed(choose_device, teacher.device)
    if teacher.path:
        wrong = _renamed(locate, teacher.path)
        problems += wrong or _renamed(require_on_hub, teacher.path, locate(teacher.path), teacher.revision)
    elif teacher.scores:
        problems.append("teacher.scores=true: needs teacher.path, the reranker that scores")
    output = Path(settings.output)
    problems += output_problems(output)
    if output.exists():
        problems.append(f"output={output}: exists; nothing was overwritten")
    return problems


def _renamed(check: Callable[..., object], *values: Any) -> list[str]:
    """Return the problems of a check whose setting is one of `model`."""
    problems: list[str] = []
    collect(problems, check, *values)
    return [problem.replace("model.", "teacher.", 1) for problem in problems]


def _mine(
    settings: MineCommand, sources: Sources, share: Share, device: str | None
) -> list[dict[str, Any]] | None:
    """Mine the queries that an earlier start did not finish; return the counts of all on rank 0."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from ...data.store import hash_file
    from ...eval.retrieval import load_bi_encoder
    from .output import Parts
    from .search import RETRIEVERS, Search

    dense = settings.retriever in ("dense", "hybrid")
    encoder = load_bi_encoder(settings.dense, device=device) if dense else None
    teacher = _load_teacher(settings, device)
    made_by = [encoder.fingerprint if encoder else "", teacher.weights_hash() if teacher else ""]
    if settings.retriever not in RETRIEVERS:
        made_by.append(hash_file(Path(settings.retriever)))
    parts = Parts(
        Path(settings.output), _fingerprint(settings, sources, made_by), index=share.index, count=share.count
    )
    done = parts.done()
    queries = list(sources.queries)[share.index :: share.count]
    queries = [query for query in queries if sources.queries[query].number not in done]
    # The sum is a barrier: no rank writes before all have read what was done.
    if share.total(np.array([float(len(queries))]))[0]:
        console = Console(stderr=True)
        shown = console.is_terminal and share.index == 0
        with Progress(console=console, disable=not shown, transient=True) as bar, parts.open() as log:
            encoded = bar.add_task("passages encoded", total=None, visible=dense)
            search = Search(settings, sources, encoder, share, lambda count: bar.advance(encoded, count))
            task = bar.add_task("queries", total=len(queries))
            for start in range(0, len(queries), BLOCK):
                for entry in _entries(settings, sources, search, queries[start : start + BLOCK], teacher):
                    parts.write(log, entry)
                    bar.advance(task)
    share.total(np.zeros(1))
    return parts.merge() if share.index == 0 else None


def _load_teacher(settings: MineCommand, device: str | None) -> Reranker | None:
    from ...model.reranker import Reranker

    teacher = settings.teacher
    if not teacher.path:
        return None
    loaded = Reranker.from_settings(
        teacher,
        device=teacher.device or device,
        tokens_per_batch=teacher.tokens_per_batch,
        seed=settings.seed,
    )
    if loaded.new_head:
        raise UserError(f"teacher.path={teacher.path}: an encoder without a head, which ranks at random")
    return loaded


def _entries(
    settings: MineCommand, sources: Sources, search: Search, queries: list[str], teacher: Reranker | None
) -> Any:
    """Yield the entry of each query: its line of the output and its counts."""
    from .negatives import choose_negatives
    from .output import row_line

    def scores(query: str, texts: Any) -> list[float]:
        # One query at a time: batches, and so the rounding, do not depend on the number of ranks.
        assert teacher is not None
        return [float(score) for score in teacher.score((query, text) for text in texts)]

    found = search.find(queries)
    for query in queries:
        wanted = sources.queries[query]
        chosen = choose_negatives(
            wanted, found[query], sources.passages, settings, scores if teacher else None
        )
        line = row_line(settings, query, wanted, chosen) if chosen.negatives else None
        yield {
            "number": wanted.number,
            "line": line,
            "negatives": len(chosen.negatives),
            "removed": dict(chosen.removed),
        }


def _fingerprint(settings: MineCommand, sources: Sources, made_by: list[str]) -> str:
    """Return the hash of everything that decides the rows."""
    from ... import __version__
    from ...data.groups import fingerprint

    values = dataclasses.asdict(settings)
    for name in ("output", "threads"):
        del values[name]
    texts = (
        text
        for query, wanted in sources.queries.items()
        for text in (query, wanted.query, *wanted.positives, *wanted.positives.values())
    )
    data = fingerprint(texts) + fingerprint(text for item in sources.passages.items() for text in item)
    about = json.dumps([__version__, values, made_by, data], sort_keys=True)
    return hashlib.sha256(about.encode()).hexdigest()


def main() -> None:
    """Run the command."""
    run("mine", MineCommand, mine)
