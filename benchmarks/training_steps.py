"""One optimizer step of Uprank, sentence-transformers, FlagEmbedding or a plain loop, by name."""

import gc
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

Row = dict[str, Any]
DROPOUTS: dict[str, tuple[float | None, float | None]] = {  # attention, hidden; None is the model's own
    "own": (None, None),
    "attention0": (0.0, None),
    "none": (0.0, 0.0),
}
LIST_LOSSES = ("ListNetLoss", "ListMLELoss", "PListMLELoss", "LambdaLoss", "RankNetLoss")
CLIP = 1.0
TINY: list[Row] = [{"query": "a", "pos": ["b"], "neg": ["c"]}]


@dataclass
class Step:
    """A training step: `run` takes it over rows `query, pos, neg`; `state` is Uprank's `Run`."""

    model: Any
    run: Callable[[list[Row]], object]
    state: Any = None


def make_step(name: str, folder: str, dropout: str, device: str, *, clip: bool = True) -> Step:
    """Return the step with a name of the tables, e.g. `FlagEmbedding fp32, queries at once 1`."""
    bf16, limit = " bf16" in name, CLIP if clip else 0.0
    if name.startswith("uprank"):
        return uprank(folder, dropout, device, bf16, limit)
    if name.startswith("plain"):
        return plain(folder, dropout, device, limit)
    at_once = 1 if name.endswith("at once 1") else None
    if name.startswith("FlagEmbedding"):
        return flag_embedding(folder, dropout, device, bf16, at_once, limit)
    words = name.replace(",", "").split()
    size = words[words.index("mini-batch") + 1]
    return sentence_transformers(
        folder, dropout, device, words[1], bf16, None if size == "None" else int(size), at_once, limit
    )


def one_at_a_time(
    folder: str, rows: list[Row], dropout: str, device: str, threads: int | None = None
) -> tuple[Callable[[str], None], Callable[[], object]]:
    """Return steps that never share memory: each is made and warmed up on a tiny group before its turn.

    Returns:
        A function that prepares the step of a name, and one that runs it.
    """
    import torch

    ready: list[Step] = []

    def prepare(name: str) -> None:
        if threads:
            torch.set_num_threads(threads)
        ready.clear()
        gc.collect()
        step = make_step(name, folder, dropout, device)
        step.run(TINY)  # creates Adam's state
        if step.state:  # `uprank train` tokenises before the first step
            step.state.reranker.pairs.add(text for r in rows for text in (r["query"], *r["pos"], *r["neg"]))
        ready.append(step)

    return prepare, lambda: ready[0].run(rows)


def uprank(folder: str, dropout: str, device: str, bf16: bool, clip: float) -> Step:
    """Return Uprank's own step, as in `uprank train`."""
    from accelerate import Accelerator
    from uprank import Reranker
    from uprank.configs.schema_train import TrainCommand
    from uprank.data.groups import Group
    from uprank.data.sampling.draws import Draw
    from uprank.train.backward import make_replicas
    from uprank.train.optim.optimizer import make_optimizer
    from uprank.train.state import Run
    from uprank.train.step import Step as UprankStep
    from uprank.train.step import make_batches, train_step

    settings = TrainCommand()
    settings.model.precision = "bf16" if bf16 else "fp32"
    settings.optim.max_grad_norm = clip
    reranker = Reranker.load(folder, precision=settings.model.precision, device=device)
    attention, hidden = DROPOUTS[dropout]
    reranker.set_dropout(attention=attention, hidden=hidden)
    accelerator = Accelerator(cpu=device == "cpu")
    scorer = accelerator.prepare(reranker.scorer)
    values = dict.fromkeys(field.name for field in fields(Run) if field.default is MISSING) | {
        "settings": settings,
        "accelerator": accelerator,
        "reranker": reranker,
        "scorer": scorer,
        "optimizer": make_optimizer(reranker.model, settings.optim, new_head=False),  # its first rate is 0
        "steps": 1,
        "replicas": make_replicas(scorer, accelerator),
    }
    run = Run(**values)

    def step(rows: list[Row]) -> object:
        run.groups = [Group(r["query"], tuple(r["pos"]), tuple(r["neg"]), str(i)) for i, r in enumerate(rows)]
        draws = [Draw(i, i, g.query, g.positives, g.negatives) for i, g in enumerate(run.groups)]
        return train_step(run, UprankStep(draws, make_batches(run, draws)))

    return Step(reranker.model, step, run)


def sentence_transformers(
    folder: str,
    dropout: str,
    device: str,
    loss_name: str,
    bf16: bool,
    mini_batch: int | None,
    at_once: int | None,
    clip: float,
) -> Step:
    """Return a step of CrossEncoderTrainer with its default optimizer."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import losses

    model = CrossEncoder(folder, device=device)
    set_dropout(model, dropout)
    loss = getattr(losses, loss_name)(model, mini_batch_size=mini_batch)

    def part_loss(rows: list[Row]) -> torch.Tensor:
        texts = [[*row["pos"], *row["neg"]] for row in rows]
        labels = [torch.tensor([1.0] * len(r["pos"]) + [0.0] * len(r["neg"])) for r in rows]
        labels = [label.to(device) for label in labels]
        return loss([[row["query"] for row in rows], texts], labels)

    return Step(model, _stepper(model, part_loss, device, bf16, at_once, clip))


def flag_embedding(
    folder: str, dropout: str, device: str, bf16: bool, at_once: int | None, clip: float
) -> Step:
    """Return a step of FlagEmbedding; budgets of 32 and 480 tokens cut no pair of up to 500."""
    import json

    from FlagEmbedding.abc.finetune.reranker import (
        AbsRerankerCollator,
        AbsRerankerDataArguments,
        AbsRerankerTrainDataset,
    )
    from FlagEmbedding.finetune.reranker.encoder_only.base.modeling import CrossEncoderModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    inner = AutoModelForSequenceClassification.from_pretrained(folder).to(device)
    set_dropout(inner, dropout)
    model = CrossEncoderModel(inner, tokenizer=tokenizer)
    with tempfile.TemporaryDirectory() as empty:  # the dataset needs a file; each step brings its rows
        file = Path(empty) / "rows.jsonl"
        file.write_text(json.dumps({"query": "a", "pos": ["b"], "neg": ["c"]}) + "\n")
        arguments = AbsRerankerDataArguments(
            train_data=[str(file)], cache_path=empty, query_max_len=32, passage_max_len=480
        )
        dataset = AbsRerankerTrainDataset(arguments, tokenizer)
    collate = AbsRerankerCollator(
        tokenizer, query_max_len=32, passage_max_len=480, padding=True, return_tensors="pt"
    )

    def part_loss(rows: list[Row]) -> Any:
        dataset.dataset, arguments.train_group_size = rows, 1 + len(rows[0]["neg"])
        model.train_batch_size = len(rows)
        batch = collate([dataset[number] for number in range(len(rows))])
        return model(pair=batch["pair"].to(device), teacher_scores=batch["teacher_scores"]).loss

    return Step(inner, _stepper(model, part_loss, device, bf16, at_once, clip))


def plain(folder: str, dropout: str, device: str, clip: float) -> Step:
    """Return a hand-written step: all pairs in one padded batch, cross-entropy over each group."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device)
    set_dropout(model, dropout)

    def part_loss(rows: list[Row]) -> torch.Tensor:
        pairs = [[row["query"], text] for row in rows for text in (*row["pos"], *row["neg"])]
        inputs = tokenizer(pairs, padding=True, truncation=True, max_length=512, return_tensors="pt").to(
            device
        )
        scores = model(**inputs).logits.view(len(rows), -1)
        return torch.nn.functional.cross_entropy(
            scores, torch.zeros(len(rows), dtype=torch.long, device=device)
        )

    return Step(model, _stepper(model, part_loss, device, False, None, clip))


def set_dropout(model: Any, dropout: str) -> None:
    """Set the dropout rates of a BERT or XLM-R model, like `Reranker.set_dropout`."""
    import torch

    attention, hidden = DROPOUTS[dropout]
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            rate = attention if name.endswith("attention.self.dropout") else hidden
            module.p = module.p if rate is None else rate


def _stepper(
    model: Any,
    part_loss: Callable[[list[Row]], Any],
    device: str,
    bf16: bool,
    at_once: int | None,
    clip: float,
) -> Callable[[list[Row]], float]:
    """Return a step of forward, backward, clipping and fused AdamW (the default of transformers' Trainer)."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def step(rows: list[Row]) -> float:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in _parts(rows, at_once):
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bf16):
                loss = part_loss(part) * (len(part) / len(rows))
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip or math.inf)
        optimizer.step()
        return total

    return step


def _parts(rows: list[Row], at_once: int | None) -> Iterator[list[Row]]:
    size = at_once or len(rows)
    return (rows[start : start + size] for start in range(0, len(rows), size))
