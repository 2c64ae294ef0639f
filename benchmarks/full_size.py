"""Take bge-reranker-base in full size through a CPU run: train three steps, save, reload, score, publish.

    python benchmarks/full_size.py TOKENIZER_FOLDER DATA_FOLDER OUTPUT

Builds an XLM-RoBERTa with the configuration of BAAI/bge-reranker-base (278 M parameters) and random weights
in OUTPUT/base; its scores mean nothing. The tokenizer is any XLM-RoBERTa one. DATA_FOLDER is a BEIR folder
with train and dev qrels. Prints the seconds and the peak memory of each command.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification


def build(folder: Path, tokenizer_folder: Path) -> None:
    config = XLMRobertaConfig(
        vocab_size=250_002,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        num_labels=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    model = XLMRobertaForSequenceClassification(config)
    print(f"parameters: {model.num_parameters():,}")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)


def timed(*words: str) -> None:
    before = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "uprank", *words])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"failed: uprank {' '.join(words)}")
    peak = used.ru_maxrss / 2**20  # KiB to GiB
    print(f"uprank {words[0]}: {time.perf_counter() - before:.0f} s, peak memory {peak:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("tokenizer", "data", "output"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    base, run, groups = given.output / "base", given.output / "run", given.output / "train.jsonl"
    build(base, given.tokenizer)
    timed("mine", f"data.train={given.data}", f"output={groups}", "negatives=7")
    timed(
        "train",
        f"model.path={base}",
        f"data.train={groups}",
        f"data.dev={given.data}",
        f"output={run}",
        "train.max_steps=3",
        "train.queries_per_step=4",
        "dev.max_queries=5",
        "dev.depth=10",
        "model.precision=bf16",
    )
    timed("score", f"model.path={run / 'best'}", f"input={_pairs(given.output)}")
    timed("publish", f"run={run}", f"output={given.output / 'published'}", "force=true")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory of all: {children:.1f} GiB")


def _pairs(folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text('{"query": "what is a reranker?", "documents": ["It orders passages.", "合同法"]}\n')
    return path


if __name__ == "__main__":
    main()
