"""Shared parts of the speed benchmarks: pools of real pairs, alternating rounds, memory, tables.

Within a run all methods see the same pairs and have the same number of threads. After a warm-up round they
take turns (A B C A B C …). A ratio is the median over the rounds of the ratio within each round, because the
speed of a machine drifts.
"""

import argparse
import ctypes
import gc
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

SHORTEST, LONGEST = 40, 500  # tokens of a pair: no library must cut it
LIBRARIES = ("torch", "transformers", "sentence-transformers", "FlagEmbedding", "accelerate")
SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
Pairs = list[tuple[str, str]]

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def make_parser(description: str | None, *, model: bool = True) -> argparse.ArgumentParser:
    """Return a parser with the arguments of every benchmark."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    if model:
        parser.add_argument("model", help="`base`, `tiny`, `package:NAME` or the folder of a cross-encoder")
        parser.add_argument("data", type=Path, help="BEIR folder")
        parser.add_argument("--work", type=Path, required=True, help="folder for models and pools")
        parser.add_argument("--tokenizer", type=Path, help="tokenizer of `base` (XLM-R) or `tiny`")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="JSON file for the results")
    return parser


class Texts:
    """Queries of a BEIR folder and their best BM25 passages, as pairs of 40 to 500 tokens."""

    def __init__(self, data: Path, tokenizer_folder: Path, seed: int) -> None:
        from transformers import AutoTokenizer
        from uprank.data.encoding.pairs import PairEncoder
        from uprank.data.problems import Problems, require
        from uprank.data.read import read_judged

        problems = Problems()
        split = "train" if (data / "qrels" / "train.tsv").is_file() else "test"
        collection = read_judged(str(data), problems, split=split)
        require(problems)
        assert collection is not None
        self.collection = collection
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
        self.encoder = PairEncoder(tokenizer, query_tokens=128, max_tokens=512)
        self.order = random.Random(seed).sample(sorted(collection.queries), len(collection.queries))

    def candidates(self, keys: Sequence[str], depth: int) -> dict[str, list[str]]:
        """Return the best passages of each query, skipping pairs that are too short or too long."""
        from uprank.eval.retrieval.bm25 import search_bm25

        queries = {key: self.collection.queries[key] for key in keys}
        found = search_bm25(self.collection.passages, queries, depth=2 * depth)
        return {key: self._fitting(key, row)[:depth] for key, row in found.items()}

    def _fitting(self, key: str, docs: Iterable[str]) -> list[str]:
        docs = list(docs)
        pairs = [(self.collection.queries[key], self.collection.passages[doc]) for doc in docs]
        lengths = self.encoder.full_lengths(pairs)
        return [doc for doc, length in zip(docs, lengths, strict=True) if SHORTEST <= length <= LONGEST]

    def pools(self, count: int, few: int) -> dict[str, list[Pairs]]:
        """Return `large`, a call of `count` pairs (10 a query), and `few`, calls of 20 to 30 pairs."""
        generator = random.Random(1)
        keys, rest = self.order[: -(-count // 8) + 1], self.order[::-1][:few]
        large = [pair for key, docs in self.candidates(keys, 10).items() for pair in self._pairs(key, docs)]
        calls = [
            self._pairs(key, docs[: generator.randint(20, 30)])
            for key, docs in self.candidates(rest, 30).items()
        ]
        generator.shuffle(large)
        return {"large": [large[:count]], "few": calls}

    def _pairs(self, key: str, docs: Iterable[str]) -> Pairs:
        return [(self.collection.queries[key], self.collection.passages[doc]) for doc in docs]

    def groups(self, queries: int, passages: int) -> list[dict[str, Any]]:
        """Return rows `query, pos, neg`: one relevant passage and the hardest irrelevant ones."""
        rows = []
        for key, docs in self.candidates(self.order[: 4 * queries], 2 * passages).items():
            relevant = self.collection.qrels[key]
            positive = self._fitting(key, [doc for doc, grade in relevant.items() if grade > 0])
            negatives = [doc for doc in docs if doc not in relevant][: passages - 1]
            if positive and len(negatives) == passages - 1:
                texts = [self.collection.passages[doc] for doc in (positive[0], *negatives)]
                rows.append({"query": self.collection.queries[key], "pos": texts[:1], "neg": texts[1:]})
        return rows[:queries]


def alternate(
    methods: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    before: Callable[[str], object] | None = None,
) -> dict[str, list[float]]:
    """Measure the seconds of every method in every round; the first number is the warm-up round.

    Args:
        methods: name to one whole measurement.
        rounds: rounds after the warm-up.
        before: called with the name before every measurement, not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for name, call in methods.items():
            gc.collect()
            if before:
                before(name)
            begun = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begun)
            say(f"round {number} of {rounds}: {name}: {seconds[name][-1]:.2f} s")
    return seconds


def ratio(base: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """Return how many times faster `other` is: median, least and most of the rounds after the warm-up.

    >>> ratio([9.0, 4.0, 6.0, 2.0], [1.0, 2.0, 2.0, 2.0])
    (2.0, 1.0, 3.0)
    """
    ratios = [slow / fast for slow, fast in zip(base[1:], other[1:], strict=True)]
    return median(ratios), min(ratios), max(ratios)


def memory() -> dict[str, float]:
    """Return the current and the peak memory of this process in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    read = {key: float(value.split()[0]) / 1024 for key, _, value in (x.partition(":\t") for x in lines)
            if key in ("VmRSS", "VmHWM")}  # fmt: skip
    return {"now": read["VmRSS"], "peak": read["VmHWM"]}


def peak_of(call: Callable[[], object]) -> dict[str, float]:
    """Measure a call: MiB before it, peak MiB beyond that during it, and its seconds.

    Freed memory is returned to the system first (Linux with glibc).
    """
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = memory()["now"]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    begun = time.perf_counter()
    call()
    seconds = time.perf_counter() - begun
    return {"before": before, "beyond": memory()["peak"] - before, "seconds": seconds}


def child(*words: str | Path) -> Any:
    """Run a Python script in its own process and return its last line, parsed as JSON."""
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"failed: {' '.join(command)}")
    return json.loads(done.stdout.splitlines()[-1])


def say(text: str) -> None:
    """Print progress to stderr."""
    print(text, file=sys.stderr, flush=True)


def machine(threads: int | None) -> dict[str, Any]:
    """Describe the machine and the versions that the figures hold for."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fields = dict((part.strip() for part in line.split(":", 1)) for line in info.splitlines() if ":" in line)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    installed = {distribution.name.lower() for distribution in importlib.metadata.distributions()}
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "instruction_sets": [name for name in SETS if name in flags],
        "python": platform.python_version(),
        "versions": {x: importlib.metadata.version(x) for x in LIBRARIES if x.lower() in installed},
    }


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; numbers are shortened to three digits.

    >>> print(table(["a", "b"], [["x", 0.12345]]))
    | a | b |
    |---|---|
    | x | 0.123 |
    """
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(
        ("|" + "|".join(line) + "|") if line[0] == "---" else "| " + " | ".join(line) + " |" for line in lines
    )


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(given: argparse.Namespace, sections: Mapping[str, str], results: Mapping[str, Any]) -> None:
    """Print the machine and the tables, and write the JSON file."""
    where = machine(getattr(given, "threads", None))
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    print(f"{where['cpu']}, {where['cores']} cores ({', '.join(where['instruction_sets'])}); "
          f"{where['threads']} threads for every method; {versions}")  # fmt: skip
    print(f"Command: `python {' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`")
    for title, text in sections.items():
        print(f"\n### {title}\n\n{text}")
    if given.json:
        whole = {"machine": where, "command": sys.argv, "results": results}
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")
