"""Compare the quality of Uprank, sentence-transformers and FlagEmbedding after the same training.

    python benchmarks/trainers.py START stard=STARD:stard-train.jsonl --work FOLDER

START is a reranker with a head. Several collections NAME=FOLDER:FILE are allowed; FOLDER is a BEIR folder
with train, dev and test queries (benchmarks/hold_out.py makes one), FILE has rows `query, pos, neg`
(`uprank mine` makes one). Every tool trains one epoch on the same QUERIES rows of one positive and PASSAGES
- 1 negatives, with its own loss of the same form; the weights after the last step count. The other tools
draw the same order of rows from a seed, and Uprank's rows are arranged so that it draws that order too:
over a few hundred rows the order matters more than the tool (--order own keeps each tool's own). With
several --rates, the first seed trains with each, and the one with the best dev nDCG@10, averaged over tools
and collections, is used for all. Finished runs are kept, so the same command continues. The test queries
are scored after all training.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import report, say
from trainers_runs import TOOLS, VARIANTS, Plan, run, trainer_order, uprank_rows
from trainers_tables import mean_of, read_values, sections

Collection = tuple[str, str, str]  # name, BEIR folder, training file


def main() -> None:
    given = parse()
    if given.child:
        return train_here(given.child)
    begin(given)
    for name, _, file in given.collections:
        pick_rows(Path(file), given.work / name / "rows.jsonl", given)
    runs = [(name, folder, tool) for name, folder, _ in given.collections for tool in given.tools]
    for rate in given.rates:
        for run_of in runs:
            train(given, *run_of, rate, given.seeds[0])
    chosen = choose(given)
    for seed in given.seeds[1:]:
        for run_of in runs:
            train(given, *run_of, chosen, seed)
    results: dict[str, Any] = {"rate": chosen, "values": {}, "seconds": {}}
    for name, folder, _ in given.collections:
        models = {
            f"{tool}_{seed}": run_folder(given, name, tool, chosen, seed)
            for tool in given.tools
            for seed in given.seeds
        }
        results["seconds"][name] = {key: read_run(path)["seconds"] for key, path in models.items()}
        systems = {"start": str(given.work / "start"), **{k: read_run(p)["model"] for k, p in models.items()}}
        results["values"][name] = {
            split: evaluate(given, folder, split, systems, given.work / name / f"eval-{split}")
            for split in ("dev", *([] if given.skip_test else ["test"]))
        }
    report(given, *sections(results, list(given.tools), list(given.seeds)))
    return None


def parse() -> argparse.Namespace:
    """Parse the command line and its collections."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("start", nargs="?", help="folder of a reranker with a head")
    parser.add_argument("collections", nargs="*", help="NAME=BEIR_FOLDER:TRAIN.jsonl")
    parser.add_argument("--work", type=Path, help="folder for rows, runs and evaluations")
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=[*TOOLS, *VARIANTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--rates", nargs="+", type=float, default=[5e-5, 1.5e-4], help="learning rates to choose from"
    )
    parser.add_argument("--queries", type=int, default=180, help="training rows")
    parser.add_argument("--queries-per-step", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=3, help="queries a forward pass of the other tools")
    parser.add_argument("--passages", type=int, default=8, help="passages a row, one of them relevant")
    parser.add_argument("--query-tokens", type=int, default=48)
    parser.add_argument("--max-tokens", type=int, default=128, help="longest pair")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--attention-dropout", type=float, help="for all tools; START's own if not set")
    parser.add_argument("--hidden-dropout", type=float, help="for all tools; START's own if not set")
    parser.add_argument("--order", default="shared", choices=["shared", "own"], help="order of the rows")
    parser.add_argument("--depth", type=int, default=20, help="BM25 candidates a query, dev and test")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--skip-test", action="store_true", help="do not score the test queries")
    parser.add_argument("--json", type=Path, help="JSON file for the results")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return given
    if not (given.start and given.collections and given.work):
        parser.error("START, at least one NAME=BEIR_FOLDER:TRAIN.jsonl, and --work are required")
    if given.queries % given.queries_per_step or given.queries_per_step % given.at_once:
        parser.error("--queries must be a multiple of --queries-per-step, and that a multiple of --at-once")
    given.collections = [parse_collection(text, parser) for text in given.collections]
    return given


def parse_collection(text: str, parser: argparse.ArgumentParser) -> Collection:
    """Split `NAME=FOLDER:FILE`."""
    name, _, rest = text.partition("=")
    folder, _, file = rest.rpartition(":")
    if not (name.isidentifier() and Path(folder).is_dir() and Path(file).is_file()):
        parser.error(f"`{text}` is not NAME=BEIR_FOLDER:TRAIN.jsonl with an existing folder and file")
    return name, str(Path(folder).resolve()), file


def begin(given: argparse.Namespace) -> None:
    """Copy the start model, and exit if the work folder holds runs of other settings."""
    kept = ("queries", "queries_per_step", "at_once", "passages", "query_tokens", "max_tokens", "precision")
    settings = {key: getattr(given, key) for key in (*kept, "attention_dropout", "hidden_dropout", "order")}
    settings["start"] = str(Path(given.start).resolve())
    file, start = given.work / "settings.json", given.work / "start"
    if file.is_file() and json.loads(file.read_text()) != settings:
        sys.exit(f"{given.work} holds runs of other settings ({file}); give another --work")
    if not start.is_dir():
        part = given.work / "start.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(given.start, part)
        config = json.loads((part / "config.json").read_text(encoding="utf-8"))
        rates = {
            "attention_probs_dropout_prob": given.attention_dropout,
            "hidden_dropout_prob": given.hidden_dropout,
        }
        config |= {key: rate for key, rate in rates.items() if rate is not None}
        (part / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
        part.rename(start)
    file.write_text(json.dumps(settings, indent=1), encoding="utf-8")


def pick_rows(file: Path, output: Path, given: argparse.Namespace) -> None:
    """Write the training rows of all tools: the same seeded queries, positives and negatives."""
    if output.is_file():
        return
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    picked = sample_rows(rows, given.queries, given.passages - 1)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in picked), encoding="utf-8")


def sample_rows(rows: list[dict[str, Any]], queries: int, negatives: int) -> list[dict[str, Any]]:
    """Draw `queries` rows with seed 0, each with one positive and `negatives` negatives."""
    generator = random.Random(0)
    whole = [row for row in rows if len(row["neg"]) >= negatives]
    if len(whole) < queries:
        sys.exit(f"{queries} rows with {negatives} negatives are needed, the file has {len(whole)}")
    return [
        {
            "query": row["query"],
            "pos": [generator.choice(row["pos"])],
            "neg": generator.sample(row["neg"], negatives),
        }
        for row in generator.sample(whole, queries)
    ]


def rows_of(given: argparse.Namespace, name: str, tool: str, seed: int) -> Path:
    """Return the training file of a tool."""
    rows = Path(given.work) / name / "rows.jsonl"
    if tool != "uprank" or given.order == "own":
        return rows
    made = rows.with_name(f"rows-for-uprank-seed{seed}.jsonl")
    if not made.is_file():
        order = trainer_order(given.queries, given.at_once, given.queries_per_step, seed, rows.parent)
        lines = rows.read_text(encoding="utf-8").splitlines(keepends=True)
        made.write_text("".join(uprank_rows(lines, order, seed)), encoding="utf-8")
    return made


def run_folder(given: argparse.Namespace, name: str, tool: str, rate: float, seed: int) -> Path:
    return Path(given.work) / name / f"{tool}-rate{rate:g}-seed{seed}"


def read_run(folder: Path) -> dict[str, Any]:
    """Read the record of a finished run."""
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


def train(given: argparse.Namespace, name: str, folder: str, tool: str, rate: float, seed: int) -> Path:
    """Train once in a new process, unless the run is finished."""
    output = run_folder(given, name, tool, rate, seed)
    if (output / "run.json").is_file():
        return output
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    plan = Plan(
        start=str(given.work / "start"),
        rows=str(rows_of(given, name, tool, seed)),
        dev=folder,
        rate=rate,
        seed=seed,
        queries_per_step=given.queries_per_step,
        at_once=given.at_once,
        passages=given.passages,
        query_tokens=given.query_tokens,
        max_tokens=given.max_tokens,
        precision=given.precision,
        threads=given.threads,
    )
    (output / "plan.json").write_text(json.dumps({"tool": tool, "plan": asdict(plan)}, indent=1))
    with (output / "output.txt").open("w") as log:
        done = subprocess.run([sys.executable, __file__, "--child", str(output)], stdout=log, stderr=log)
    if done.returncode:
        sys.exit(f"{output} failed: see {output / 'output.txt'}")
    say(f"{output.name} on {name}: {read_run(output)['seconds']:.0f} s")
    return output


def train_here(output: Path) -> None:
    """Train in this process; keep the last weights and write the record."""
    request = json.loads((output / "plan.json").read_text())
    model, seconds = run(request["tool"], Plan(**request["plan"]), output / "run")
    shutil.rmtree(
        output / "run" / "checkpoints", ignore_errors=True
    )  # Uprank's, three times the model's size
    (output / "run.json").write_text(
        json.dumps({**request, "model": str(model), "seconds": seconds}, indent=1)
    )


def choose(given: argparse.Namespace) -> float:
    """Choose one rate for all: best dev nDCG@10 of the first seed, mean over tools and collections."""
    if len(given.rates) == 1:
        return float(given.rates[0])
    found: dict[float, list[float]] = {rate: [] for rate in given.rates}
    for name, folder, _ in given.collections:
        runs = {
            f"{tool}_{place}": run_folder(given, name, tool, rate, given.seeds[0])
            for tool in given.tools
            for place, rate in enumerate(given.rates)
        }
        models = {key: read_run(path)["model"] for key, path in runs.items()}
        values = evaluate(given, folder, "dev", models, given.work / name / "eval-rates")
        for key in runs:
            tool, _, place = key.rpartition("_")
            rate, value = given.rates[int(place)], mean_of(values, "nDCG@10", key)
            found[rate].append(value)
            say(f"{name}, {tool}, {rate:g}: dev nDCG@10 {value:.4f}")
    return max(found, key=lambda rate: sum(found[rate]))


def evaluate(
    given: argparse.Namespace, folder: str, split: str, models: dict[str, str], output: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Run `uprank eval` on the same candidates, scores cached; return values by query, measure, system."""
    listed = ", ".join(f"{key}: '{path}'" for key, path in models.items())
    command = [
        *(sys.executable, "-m", "uprank", "eval", f"models={{{listed}}}", f"output={output}"),
        *(
            f"data.test={folder}/qrels/{split}.tsv",
            "candidates=bm25",
            f"depth={given.depth}",
            "baseline=bm25",
        ),
        *("model.precision=bf16", f"model.query_tokens={given.query_tokens}"),
        *(f"model.max_tokens={given.max_tokens}", f"threads={given.threads}"),
    ]
    shutil.rmtree(output, ignore_errors=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the evaluation failed:\n{done.stdout}{done.stderr}")
    return read_values(output / "per_query.jsonl")


if __name__ == "__main__":
    main()
