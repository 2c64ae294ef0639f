"""Compare the scores of a published folder in every library, on real and on difficult pairs.

    python benchmarks/published_pairs.py FOLDER BEIR_FOLDER [BEIR_FOLDER …] [--pairs 500] [--seed 0]

Pairs are drawn from the queries and passages of the BEIR folders: judged and random passages, far too long
ones, short ones, and texts with `</s>` and similar tokens inserted. transformers, CrossEncoder,
FlagReranker and ONNX Runtime score them as their users call them. The output has the largest difference to
Uprank for each kind of pair. Pairs that a library reads differently by its own rules are counted
separately, with the reason.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from uprank.configs.schema import ScoredModelSettings
from uprank.data.problems import Problems, require
from uprank.data.read import read_judged
from uprank.model.backends.load import load_model
from uprank.model.reranker import Reranker
from uprank.publish.parity.libraries import PEERS
from uprank.publish.parity.probes import Probes

Pair = tuple[str, str]
ALLOWED = 1e-4  # of a logit, for each 1 of the largest one
INSERTED = ("</s>", "<s>", "<pad>", "[SEP]", "[CLS]", "</s></s>", "<mask>")
SHORT = (".", "?", "a", "的", " ", "\n", "", "…", "0")


def draw(folders: Sequence[Path], count: int, seed: int) -> dict[str, list[Pair]]:
    """Draw `count` pairs from all folders together, by kind."""
    generator, kinds = random.Random(seed), dict[str, list[Pair]]()
    for folder in folders:
        problems = Problems()
        split = next(name for name in ("dev", "test") if (folder / "qrels" / f"{name}.tsv").is_file())
        collection = read_judged(str(folder), problems, split=split)
        require(problems)
        assert collection is not None
        queries, passages = collection.queries, list(collection.passages.values())
        share = count // len(folders)
        for kind, part in {
            "judged": 0.3, "random": 0.3, "over-long": 0.15, "empty-ish": 0.1, "special tokens": 0.15
        }.items():  # fmt: skip
            rows = kinds.setdefault(f"{folder.name}: {kind}", [])
            for _ in range(round(share * part)):
                query = generator.choice(list(queries))
                rows.append(_pair(kind, query, collection, passages, generator))
    return kinds


def _pair(kind: str, query: str, collection: Any, passages: list[str], generator: random.Random) -> Pair:
    text, passage = collection.queries[query], generator.choice(passages)
    if kind == "judged":
        return text, collection.passages[generator.choice(list(collection.qrels[query]))]
    if kind == "over-long":
        return text, " ".join([passage, *generator.choices(passages, k=9)])
    if kind == "empty-ish":
        return (
            (generator.choice(SHORT), passage)
            if generator.random() < 0.3
            else (text, generator.choice(SHORT))
        )
    if kind == "special tokens":
        return _with(text, generator), _with(passage[:300], generator)
    return text, passage


def _with(text: str, generator: random.Random) -> str:
    """Insert a special token into the text, with or without spaces around it."""
    place, token = generator.randrange(len(text) + 1), generator.choice(INSERTED)
    return text[:place] + generator.choice(("{}", " {} ")).format(token) + text[place:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of `uprank publish` with onnx/model.onnx")
    parser.add_argument("data", type=Path, nargs="+", help="BEIR folders")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    kinds = draw(given.data, given.pairs, given.seed)
    pairs = [pair for rows in kinds.values() for pair in rows]
    names = [kind for kind, rows in kinds.items() for _ in rows]
    reranker = Reranker.load(given.folder, device="cpu")
    pairs, reranker = reranker.prompts.pairs(pairs), reranker.as_read  # the other libraries know no prompts
    expected = reranker.score(pairs).astype(float)
    probes = Probes.read(given.folder, reranker, pairs)
    print(f"{len(pairs)} pairs; tokenizer: {len(probes.problems)} unexplained differences")
    graph = load_model(ScoredModelSettings(str(given.folder), backend="onnx", device="cpu"))
    longest = reranker.pairs.max_tokens
    scorers: dict[str, Callable[[list[Pair]], Sequence[float] | np.ndarray]] = {
        peer.loader: lambda some, peer=peer: peer.scores(given.folder, some, longest) for peer in PEERS
    }
    scorers["ONNX Runtime fp32"] = graph.score
    bound = ALLOWED * max(1.0, float(np.abs(expected).max()))
    results: dict[str, Any] = {"pairs": len(pairs), "allowed": bound, "seed": given.seed}
    for name, scorer in scorers.items():
        own = probes.flag_reasons if name == "FlagReranker" else [""] * len(pairs)
        reasons = [reason or other for reason, other in zip(probes.reasons, own, strict=True)]
        if name.startswith("ONNX"):  # its ids come from our encoder, so it reads every pair alike
            reasons = [""] * len(pairs)
        found = np.full(len(pairs), np.nan)
        alike = [n for n, reason in enumerate(reasons) if not reason]
        found[alike] = scorer([pairs[n] for n in alike])
        others = [n for n, reason in enumerate(reasons) if reason]
        found[others] = _others(scorer, [pairs[n] for n in others])
        differences = np.abs(found - expected)
        results[name] = _summary(differences, names, reasons, pairs, reranker)
        print(f"\n{name}: {json.dumps(results[name], ensure_ascii=False, indent=1)}", flush=True)
    worst = max(row["largest"] for name in scorers for row in results[name]["kinds"].values())
    print(f"\nlargest difference {worst:.1e}, allowed {bound:.1e}: {'held' if worst <= bound else 'FAILED'}")
    if given.json:
        given.json.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if not worst <= bound:
        raise SystemExit(1)


def _others(scorer: Callable[[list[Pair]], Any], pairs: list[Pair]) -> np.ndarray:
    """Return scores of pairs that the library reads differently; all NaN if it fails on one."""
    try:
        return np.asarray(scorer(pairs), dtype=float) if pairs else np.empty(0)
    except Exception as error:  # another library may reject a pair with any error
        print(f"fails on them: {type(error).__name__}: {error}")
        return np.full(len(pairs), np.nan)


def _summary(
    differences: np.ndarray, names: list[str], reasons: list[str], pairs: list[Pair], reranker: Reranker
) -> dict[str, Any]:
    """Return the largest difference of each kind over pairs read alike; the others by reason."""
    found: dict[str, Any] = {"kinds": {}, "apart": {}}
    cut = [reranker.pairs.encode(*pair).truncated for pair in pairs]
    for kind in dict.fromkeys(names):
        places = [n for n, name in enumerate(names) if name == kind and not reasons[n]]
        found["kinds"][kind] = {
            "pairs": len(places),
            "cut": sum(cut[n] for n in places),
            "largest": float(differences[places].max()) if places else 0.0,
        }
    for reason, count in Counter(filter(None, reasons)).items():
        places = [n for n, other in enumerate(reasons) if other == reason]
        kinds = Counter(names[n] for n in places)
        found["apart"][reason] = {
            "pairs": count,
            "largest": float(differences[places].max()),
            "kinds": dict(kinds),
        }
    return found


if __name__ == "__main__":
    main()
