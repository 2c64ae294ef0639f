"""Models of the speed benchmarks: real shapes, in folders that every library loads."""

import argparse
import sys
from pathlib import Path

HEAD_SCALE = 100
SMALL = 512  # a model with fewer hidden units is small, and gets more pairs and groups


def model_folder(name: str, work: Path, tokenizer: Path | None) -> Path:
    """Return a cross-encoder folder that every library loads; make it on the first call.

    Args:
        name: `base`, the shape of BAAI/bge-reranker-base with random weights; `tiny`, 2 layers x 64 with
            random weights; `package:NAME`, an encoder with a seeded new head; or a folder, used unchanged.
        work: folder that keeps the models.
        tokenizer: folder of the tokenizer for `base` (an XLM-R one) and `tiny`.
    """
    if name not in ("base", "tiny") and not name.startswith("package:"):
        return Path(name)
    folder = work / name.removeprefix("package:")
    if folder.is_dir():
        return folder
    part = folder.with_suffix(".part")
    if name.startswith("package:"):
        from uprank import Reranker

        Reranker.load(name, max_tokens=512, seed=0, device="cpu").save(part)
    elif tokenizer is None:
        sys.exit(f"`{name}` needs --tokenizer FOLDER")
    elif name == "base":
        from full_size import build

        build(part, tokenizer)
    else:
        _build_tiny(part, tokenizer)
    _spread_scores(part)
    part.rename(folder)
    return folder


def begin(given: argparse.Namespace) -> tuple[str, bool]:
    """Set the threads and make the model.

    Returns:
        Its folder, and True if it is small.
    """
    import torch
    from transformers import AutoConfig

    torch.set_num_threads(given.threads)
    folder = str(model_folder(given.model, given.work, given.tokenizer))
    return folder, AutoConfig.from_pretrained(folder).hidden_size < SMALL


def _build_tiny(folder: Path, tokenizer_folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _spread_scores(folder: Path) -> None:
    """Scale a new head: its scores lie within 0.01, so any two methods would agree."""
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        getattr(model.classifier, "out_proj", model.classifier).weight.mul_(HEAD_SCALE)
    model.save_pretrained(folder)
