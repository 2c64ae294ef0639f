"""One training run of Uprank, sentence-transformers or FlagEmbedding, each with its own trainer.

All three minimise the cross-entropy of a group's positive against its negatives. sentence-transformers has
two losses for this. The target of ListNetLoss is the softmax over the labels: labels far enough apart give
1 and 0 (with labels 1 and 0 the target of a positive beside 7 negatives is 0.28).
MultipleNegativesRankingLoss with `scale=1, activation_fn=None` is the same only in batches of one query;
larger batches add negatives of other queries (`num_negatives=0` fails). ListNetLoss takes any batch and is
used here.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOOLS = ("uprank", "sentence_transformers", "flag_embedding")
VARIANTS = ("listnet_plain",)  # sentence-transformers' ListNetLoss with labels 1 and 0, as in its examples
FAR = 100.0  # softmax of (100, 0, 0, …) is (1, 0, 0, …) in fp32


@dataclass(frozen=True)
class Plan:
    """Settings of a run, the same for every tool.

    Attributes:
        start: folder of the model to start from.
        rows: JSONL rows `query, pos, neg`, one positive and `passages - 1` negatives each.
        dev: BEIR folder; Uprank requires one and evaluates two of its dev queries, without any effect.
        at_once: queries in one forward pass of the other tools; a step accumulates several.
    """

    start: str
    rows: str
    dev: str
    rate: float
    seed: int
    queries_per_step: int
    at_once: int
    passages: int
    query_tokens: int
    max_tokens: int
    precision: str
    threads: int


def run(tool: str, plan: Plan, output: Path) -> tuple[Path, float]:
    """Train one epoch over the rows.

    Returns:
        Folder of the last weights, and the seconds of the training loop as the tool counts them.
    """
    if tool == "uprank":
        return uprank(plan, output)
    import torch

    torch.set_num_threads(plan.threads)
    if tool == "flag_embedding":
        return flag_embedding(plan, output)
    return sentence_transformers(plan, output, positive=1.0 if tool == "listnet_plain" else FAR)


def uprank(plan: Plan, output: Path) -> tuple[Path, float]:
    """Run `uprank train` for one epoch, without an evaluation that chooses a step."""
    command = [
        *(sys.executable, "-m", "uprank", "train", f"model.path={plan.start}", f"output={output}"),
        *(f"model.precision={plan.precision}", f"model.query_tokens={plan.query_tokens}"),
        *(f"model.max_tokens={plan.max_tokens}", f"data.train={plan.rows}", f"data.dev={plan.dev}"),
        *("dev.candidates=bm25", "dev.max_queries=2", "dev.depth=2", "train.epochs=1"),
        *(f"train.queries_per_step={plan.queries_per_step}", f"train.group_size={plan.passages}"),
        *(
            "model.device=cpu",
            "train.eval_every=1000000",
            f"optim.learning_rate={plan.rate}",
            "optim.weight_decay=0.01",
        ),
        *("optim.warmup_ratio=0.1", "optim.max_grad_norm=1.0", f"seed={plan.seed}"),
        f"threads={plan.threads}",
    ]
    subprocess.run(command, check=True)
    return output / "last", json.loads((output / "manifest.json").read_text(encoding="utf-8"))["seconds"]


def trainer_order(count: int, at_once: int, queries_per_step: int, seed: int, folder: Path) -> list[int]:
    """Run transformers' Trainer to learn the order in which it reads `count` rows in its first epoch."""
    import torch
    from transformers import Trainer, TrainingArguments

    seen: list[int] = []

    class Asked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.extend(row.tolist())
            return {"loss": self.weight.sum()}

    arguments = TrainingArguments(
        output_dir=str(folder / "asked"),
        num_train_epochs=1,
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=queries_per_step // at_once,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    rows: Any = [{"row": row} for row in range(count)]
    Trainer(model=Asked(), args=arguments, train_dataset=rows).train()
    return seen


def uprank_rows(rows: list[str], order: list[int], seed: int) -> list[str]:
    """Arrange the rows so that `uprank train` with this seed reads them in the given order."""
    from uprank.data.sampling.draws import epoch_order

    arranged = list(rows)
    for place, wanted in zip(epoch_order(len(rows), seed=seed, epoch=0), order, strict=True):
        arranged[place] = rows[wanted]
    return arranged


def shared_arguments(plan: Plan, output: Path) -> dict[str, Any]:
    """Return arguments of transformers' Trainer, the base of both other trainers."""
    return {
        "output_dir": str(output),
        "num_train_epochs": 1,
        "per_device_train_batch_size": plan.at_once,
        "gradient_accumulation_steps": plan.queries_per_step // plan.at_once,
        "learning_rate": plan.rate,
        "weight_decay": 0.01,
        "warmup_steps": 0.1,  # share of the steps
        "lr_scheduler_type": "linear",
        "max_grad_norm": 1.0,
        "bf16": plan.precision == "bf16",
        "use_cpu": True,
        "seed": plan.seed,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
    }


def sentence_transformers(plan: Plan, output: Path, *, positive: float) -> tuple[Path, float]:
    """Train by CrossEncoderTrainer with ListNetLoss and its default collator and sampler."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from sentence_transformers.cross_encoder.training_args import CrossEncoderTrainingArguments

    lines = Path(plan.rows).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    data = Dataset.from_dict(
        {
            "query": [row["query"] for row in rows],
            "docs": [[*row["pos"], *row["neg"]] for row in rows],
            "label": [[positive] * len(row["pos"]) + [0.0] * len(row["neg"]) for row in rows],
        }
    )
    model = CrossEncoder(plan.start, max_length=plan.max_tokens, device="cpu")
    trainer = CrossEncoderTrainer(
        model=model,
        args=CrossEncoderTrainingArguments(**shared_arguments(plan, output)),
        train_dataset=data,
        loss=ListNetLoss(model, mini_batch_size=plan.at_once * plan.passages),
    )
    seconds = trainer.train().metrics["train_runtime"]
    model.save_pretrained(str(output / "last"))
    keep_log(trainer, output)
    return output / "last", seconds


def flag_embedding(plan: Plan, output: Path) -> tuple[Path, float]:
    """Train by FlagEmbedding's runner for encoder-only rerankers: its data set, collator, model and loss."""
    from FlagEmbedding.abc.finetune.reranker import (
        AbsRerankerDataArguments,
        AbsRerankerModelArguments,
        AbsRerankerTrainingArguments,
    )
    from FlagEmbedding.finetune.reranker.encoder_only.base import EncoderOnlyRerankerRunner

    runner = EncoderOnlyRerankerRunner(
        model_args=AbsRerankerModelArguments(model_name_or_path=plan.start),
        data_args=AbsRerankerDataArguments(
            train_data=[plan.rows],  # type: ignore[arg-type]  # a list, despite its annotation
            cache_path=str(output) + "-cache",
            train_group_size=plan.passages,
            query_max_len=plan.query_tokens,
            passage_max_len=plan.max_tokens - plan.query_tokens,
        ),
        training_args=AbsRerankerTrainingArguments(
            **shared_arguments(plan, output / "last"), dataloader_drop_last=True
        ),
    )
    runner.run()
    keep_log(runner.trainer, output)
    history = runner.trainer.state.log_history
    return output / "last", next(row["train_runtime"] for row in history if "train_runtime" in row)


def keep_log(trainer: Any, output: Path) -> None:
    """Write losses, rates and gradient norms of every step for inspection."""
    (output / "log.json").write_text(json.dumps(trainer.state.log_history, indent=1), encoding="utf-8")
