"""The Python interface: load a cross-encoder, score pairs, rerank documents, save."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configs.errors import UserError
from ..configs.schema import ModelSettings
from ..configs.validate import PRECISIONS, above_zero
from ..data.encoding import PairEncoder, choose_budgets
from ..data.prompts import NO_PROMPTS, Prompts, choose_prompts
from .forward import GRAIN, Scorer, count_streams, pack, plan_by_length, run_in_streams, suitable_tokens
from .load import load, usable_positions
from .lora import plain_state
from .probe import depends_on_padding, reads_left_to_right
from .weights import hash_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranked:
    """One document of a ranking: its index in the input list, its score and its text."""

    index: int
    score: float
    document: str


@dataclass
class Reranker:
    """A cross-encoder with its tokenizer and budgets.

    Attributes:
        scorer: module that maps packed batches to scores.
        tokenizer: tokenizer of the model.
        pairs: pair encoder with its token budgets.
        precision: `fp32`, `bf16` or `fp16`.
        path: where the model was loaded from.
        new_head: whether the head was drawn at loading and is untrained.
        tokens_per_batch: tokens in one forward pass.
        prompts: prompts put before the texts that are scored.
    """

    scorer: Scorer
    tokenizer: Any
    pairs: PairEncoder
    precision: str
    path: str
    new_head: bool
    tokens_per_batch: int = 2048
    prompts: Prompts = NO_PROMPTS

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        precision: str = "fp32",
        query_tokens: int | None = None,
        max_tokens: int | None = None,
        device: str | None = None,
        revision: str | None = None,
        tokens_per_batch: int | None = None,
        seed: int = 0,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
    ) -> Reranker:
        """Load any one-logit cross-encoder of transformers, or an encoder that gets a new head.

        Args:
            path: hub id, folder, or `package:NAME`.
            precision: `fp32`, or matrix products in `bf16` or `fp16`; `auto`: bf16 where the hardware has it.
            query_tokens: tokens that a query keeps when a pair is too long; None: as saved with the model,
                else 128.
            max_tokens: longest pair; None: as saved with the model, else what the tokenizer states, at most
                512. Never more than the model has positions.
            device: `cpu`, `cuda`, …; the fastest one present if None.
            revision: branch, tag or commit of a hub model.
            tokens_per_batch: tokens in one forward pass; what suits the device if None.
            seed: seed of a new head.
            query_prompt: put before every query; None: as saved with the model, else nothing.
            passage_prompt: put before every passage, likewise.

        Raises:
            UserError: the model cannot be found or used, or a setting is not allowed.
        """
        settings = ModelSettings(
            str(path),
            revision=revision,
            precision=precision,
            query_tokens=query_tokens,
            max_tokens=max_tokens,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            device=device,
        )
        return cls.from_settings(settings, tokens_per_batch=tokens_per_batch, seed=seed)

    @classmethod
    def from_settings(
        cls,
        settings: ModelSettings,
        *,
        device: str | None = None,
        tokens_per_batch: int | None = None,
        seed: int = 0,
    ) -> Reranker:
        """Load the model that the settings name; see `load`.

        Args:
            settings: model, token budgets, precision and prompts.
            device: used in place of `settings.device` if not None.
            tokens_per_batch: tokens in one forward pass; what suits the device if None.
            seed: seed of a new head.
        """
        path, max_tokens = settings.path, settings.max_tokens
        counts = {"query_tokens": settings.query_tokens, "max_tokens": max_tokens}
        problems = above_zero({**counts, "tokens_per_batch": tokens_per_batch})
        if settings.precision not in PRECISIONS:
            problems.append(f"model.precision={settings.precision}: allowed are {', '.join(PRECISIONS)}")
        if problems:
            raise UserError(problems)
        target = choose_device(device or settings.device)
        precision = choose_precision(settings.precision, target)
        loaded = load(path, revision=settings.revision, seed=seed)
        stated = getattr(loaded.model.config, "uprank", None)
        positions = usable_positions(loaded.model)
        kept, longest = choose_budgets(
            loaded.tokenizer, settings.query_tokens, max_tokens, positions=positions, stated=stated
        )
        if max_tokens and longest < max_tokens:
            log.info(
                "%s has %d positions: model.max_tokens is %d, not %d", path, longest, longest, max_tokens
            )
        pairs = PairEncoder(loaded.tokenizer, query_tokens=kept, max_tokens=longest)
        model = loaded.model.to(target).eval()
        scorer = Scorer(model, precision, token_types=pairs.gives_types).eval()
        prompts = choose_prompts(settings.query_prompt, settings.passage_prompt, stated)
        if not scorer.packed:
            scorer.by_length = depends_on_padding(model, pairs, path)
            how = "batches of one length" if scorer.by_length else "padded batches"
            log.info("%s cannot be packed: %s", type(model).__name__, how)
            if scorer.by_length and loaded.tokenizer.padding_side == "right":
                log.warning(
                    "%s: padding changes its scores, so only pairs of one length are scored together; "
                    "libraries that pad give other scores, so `uprank publish` will refuse it",
                    type(model).__name__,
                )
            if stated is None and not (loaded.new_head or prompts) and reads_left_to_right(model, pairs):
                log.warning(
                    "%s: a language model with a score head; if it was trained with a prompt template, as "
                    "Qwen3-Reranker was, it ranks nearly at random without: set model.query_prompt and "
                    "model.passage_prompt to what its card puts before the texts",
                    type(model).__name__,
                )
        return cls(
            scorer,
            loaded.tokenizer,
            pairs,
            precision,
            path,
            loaded.new_head,
            tokens_per_batch or suitable_tokens(target.type),
            prompts,
        )

    @property
    def model(self) -> Any:
        """Transformers model.

        Write its weights under `torch.no_grad()`. A write through `.data` goes unnoticed: scores stay the old
        ones until `scorer.train()` is called.
        """
        return self.scorer.model

    @property
    def budgets(self) -> tuple[int, int]:
        """Token budgets of the query and of the pair."""
        return self.pairs.query_tokens, self.pairs.max_tokens

    @property
    def as_read(self) -> Reranker:
        """Same model without prompts, for texts that already contain theirs."""
        return replace(self, prompts=NO_PROMPTS)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.scorer.parameters()).device

    def score(
        self, pairs: Iterable[tuple[str, str]], *, progress: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """Return the raw logits of (query, passage) pairs, in the order given.

        Each distinct pair is scored once. Apart from rounding, the result does not depend on the batches. A
        sigmoid maps a logit to a number between 0 and 1 and keeps the order.

        Args:
            pairs: any number of pairs of strings; the model's prompts are put before them.
            progress: called with the number of distinct pairs done since the last call, by one thread at a
                time, not always the caller's.

        Returns:
            float32, shape (N,).

        Raises:
            UserError: a pair is not two strings.
        """
        given = [self.prompts.pair(*_checked(number, pair)) for number, pair in enumerate(pairs)]
        slots: dict[tuple[str, str], int] = {}
        where = np.fromiter((slots.setdefault(pair, len(slots)) for pair in given), np.int64, len(given))
        distinct = list(slots)
        scores = np.empty(len(distinct), dtype=np.float32)
        self.scorer.eval()
        device, lock = self.device, threading.Lock()
        streams = count_streams(device)
        plan = plan_by_length(
            self.pairs.lengths(distinct), self.tokens_per_batch, padded=not self.scorer.packed
        )

        def score_batch(batch: np.ndarray) -> None:
            flat = self.pairs.encode_flat([distinct[index] for index in batch], multiple_of=GRAIN)
            with torch.inference_mode():
                scores[batch] = self.scorer(pack(flat, device=device)).cpu().numpy()
            if progress:
                with lock:
                    progress(len(batch))

        self.scorer.prepare()
        run_in_streams(score_batch, plan, streams)
        return scores[where]

    def rerank(self, query: str, documents: Iterable[str], top_k: int | None = None) -> list[Ranked]:
        """Return the documents ordered by score, best first; equal scores keep the order given.

        Args:
            query: query text.
            documents: texts to rank.
            top_k: number of documents to return; all if None.

        Raises:
            UserError: `documents` are not strings, or `top_k` is not a number from 1.
        """
        if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
            raise UserError(f"top_k={top_k!r}: allowed are whole numbers from 1")
        if isinstance(documents, (str, bytes, Mapping)):
            raise UserError(f"documents is {type(documents).__name__}; give a list of strings")
        documents = list(documents)
        scores = self.score((query, document) for document in documents)
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [Ranked(int(i), float(scores[i]), documents[i]) for i in order]

    def set_dropout(self, *, attention: float | None, hidden: float | None) -> None:
        """Set the dropout rates of training; None keeps the model's own.

        Raises:
            UserError: a rate is given that the model's configuration does not have.
        """
        if not self.scorer.packed:
            self._rebuild({"attention": attention, "hidden": hidden})
            return
        for name, module in self.model.named_modules():
            if isinstance(module, torch.nn.Dropout):
                rate = attention if name.endswith("attention.self.dropout") else hidden
                module.p = module.p if rate is None else rate

    def _rebuild(self, rates: Mapping[str, float | None]) -> None:
        """Make a model that is not packed anew with other rates, which only its configuration names."""
        config, problems = copy.deepcopy(self.model.config), []
        for kind, rate in rates.items():
            names = [
                name
                for name, value in config.to_dict().items()
                if "dropout" in name and isinstance(value, float) and ("att" in name) == (kind == "attention")
            ]
            if rate is not None and not names:
                problems.append(
                    f"model.{kind}_dropout={rate}: the config.json of {type(self.model).__name__} has none"
                )
            for name in names if rate is not None else ():
                setattr(config, name, rate)
        if problems:
            raise UserError(problems, advice="Leave it out: the model's own rates are used.")
        if config.to_dict() != self.model.config.to_dict():
            with torch.random.fork_rng(devices=[]):
                fresh = type(self.model)(config)
            fresh.load_state_dict(self.model.state_dict())
            self.scorer.model = fresh.to(self.device).train(self.model.training)

    def save(self, folder: str | Path) -> None:
        """Write config.json, with token budgets and prompts, model.safetensors and the tokenizer."""
        self.tokenizer.model_max_length = self.pairs.max_tokens
        self.model.config.uprank = {
            "query_tokens": self.pairs.query_tokens,
            "max_tokens": self.pairs.max_tokens,
            **self.prompts.stated(),
        }
        self.model.save_pretrained(folder, state_dict=plain_state(self.model))
        self.tokenizer.save_pretrained(folder)

    def weights_hash(self) -> str:
        """Return `sha256:…` of the weights as they are saved."""
        return hash_weights(plain_state(self.model))


def works_on_cpu(device: str | None) -> bool:
    """Return whether the CPU does the work: it was asked for, or there is nothing faster.

    Accelerate must be told; else each of several processes on a machine without a GPU believes it is alone.
    """
    return (device or "").startswith("cpu") or (device is None and not torch.accelerator.is_available())


def choose_device(device: str | None) -> torch.device:
    """Return the device asked for, or the fastest one present.

    Raises:
        UserError: there is no such device here.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"model.device={device}: not usable here ({str(error).splitlines()[0]})") from error
    return target


def choose_precision(precision: str, device: torch.device) -> str:
    """Return the precision asked for; for `auto` bf16 where the device computes in it, else fp32.

    A CPU without units for bf16 emulates it, several times slower than fp32.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        told = getattr(torch.cpu, "get_capabilities", dict[str, bool])  # newer versions of torch
        units = told() if device.type == "cpu" else {}
        able = any(units.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return "bf16" if able else "fp32"


def _checked(number: int, pair: object) -> tuple[str, str]:
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(text, str) for text in pair):
        return pair[0], pair[1]
    raise UserError(f"pair {number}: a pair is (query, passage), two strings; this is {pair!r:.80}")
