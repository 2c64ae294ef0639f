"""Join BEIR folders into one and hold dev queries out of each.

    python benchmarks/join_folders.py en=xquad-en zh=xquad-zh --output xquad [--split test] [--dev 40]

Ids are prefixed with the name of their folder. Training queries with the text of a dev query are dropped.
"""

import argparse
import json
import random
from pathlib import Path

from uprank.data.problems import Problems, require
from uprank.data.read import read_judged


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", help="NAME=BEIR_FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--split", default="test", help="split that gives the judgments")
    parser.add_argument("--dev", type=int, default=40, help="dev queries of each folder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    generator = random.Random(given.seed)
    texts: dict[str, list[str]] = {"corpus": [], "queries": []}
    judged: dict[str, list[str]] = {"train": [], "dev": []}
    for word in given.folders:
        name, _, folder = word.partition("=")
        problems = Problems()
        found = read_judged(str(Path(folder) / "qrels" / f"{given.split}.tsv"), problems, split=given.split)
        require(problems)
        held = set(generator.sample(sorted(found.queries), given.dev))
        held_texts = {found.queries[key].casefold() for key in held}
        for key, row in found.qrels.items():
            if key not in held and found.queries[key].casefold() in held_texts:
                continue
            lines = [f"{name}{key}\t{name}{doc}\t{grade}" for doc, grade in row.items()]
            judged["dev" if key in held else "train"] += lines
        for file, kept in texts.items():
            for line in (Path(folder) / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                kept.append(json.dumps({**row, "_id": name + row["_id"]}, ensure_ascii=False))

    (given.output / "qrels").mkdir(parents=True)
    for file, kept in texts.items():
        (given.output / f"{file}.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    for split, lines in judged.items():
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n"
        (given.output / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        print(f"{split}: {len(lines)} judgments")


if __name__ == "__main__":
    main()
