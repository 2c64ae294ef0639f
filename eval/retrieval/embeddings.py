"""Texts to vectors by a bi-encoder, each computed once and kept under the hash of what it was made from.

A vector depends on its text and the model alone, not on the batch it was encoded in: texts are padded to a
multiple of 32 tokens and encoded with others of the same padded length. So one process and several, a killed
run and one that was not, an empty cache and a full one give the same bits (measured on CPUs; a BLAS may
compute a row of a product differently in another company, which no padding can mend).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...configs.errors import UserError
from ...configs.paths import cache_folder
from ...configs.schema import DenseSettings
from ...model.backends import hash_config
from ...model.load import locate, quiet_transformers
from ...model.reranker import choose_device
from ...model.weights import hash_weights
from ..processes import Share

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]
PADDING = 32  # tokens: few enough to waste little, many enough for batches of one length
PART = 1024  # texts in one file of the cache: what a kill costs
SIMILARITIES = ("cosine", "dot")


@dataclass(frozen=True)
class Vectors:
    """N vectors that lie in files of the cache, read when asked for.

    Attributes:
        parts: the files, memory-mapped.
        places: (N, 2) int32: file and row of each vector.
    """

    parts: list[Any]
    places: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, start: int, stop: int) -> Floats:
        """Vectors `start` to `stop`, shape (stop - start, D)."""
        places = self.places[start:stop]
        found = np.empty((len(places), self.parts[0]["vector"].shape[1]), dtype=np.float32)
        for part in np.unique(places[:, 0]):
            rows = np.flatnonzero(places[:, 0] == part)
            found[rows] = self.parts[part]["vector"][places[rows, 1]]
        return found


@dataclass(frozen=True)
class BiEncoder:
    """A sentence-transformers model; one of FlagEmbedding's encoders loads as one too.

    Attributes:
        model: the model.
        settings: where it came from, prompts and batch size.
        fingerprint: hash of weights, modules, their configs, tokenizer and length: what decides a vector
            besides its text.
    """

    model: Any
    settings: DenseSettings
    fingerprint: str

    def embed(
        self,
        texts: Sequence[str],
        kind: str,
        *,
        share: Share | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Vectors:
        """Vectors of the texts, in their order; what the cache has is not encoded again.

        Args:
            texts: any texts, at least one.
            kind: `query` or `passage`: which prompt.
            share: with several processes each encodes its part, and all of them read everything.
            progress: called with the number of texts encoded since the last call.

        Raises:
            UserError: the model makes a number that is not finite, or the cache cannot be written.
        """
        try:
            return self._embed(texts, kind, share or Share(), progress)
        except OSError as error:
            raise UserError(
                f"{error.filename or cache_folder()}: {error.strerror or error}",
                advice=f"Vectors are kept in {cache_folder()}; set UPRANK_CACHE to a folder with room.",
            ) from error

    def _embed(
        self, texts: Sequence[str], kind: str, share: Share, progress: Callable[[int], object] | None
    ) -> Vectors:
        from filelock import FileLock

        prompt = self._prompt(kind)
        folder = cache_folder() / "embeddings" / _hash(f"{self.fingerprint}\n{kind}\n{prompt}")[:32]
        folder.mkdir(parents=True, exist_ok=True)
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
        own = dict(zip(keys[share.index :: share.count], texts[share.index :: share.count], strict=True))
        # Runs that know nothing of each other wait here, and then find everything done.
        with FileLock(folder / f"{share.index}-of-{share.count}.lock"):
            known = _known(_parts(folder))
            missing = {key: text for key, text in own.items() if key not in known}
            for batch in self._encode(missing, kind, prompt):
                _write(folder, batch)
                if progress:
                    progress(len(batch))
        share.total(np.zeros(1))  # nobody goes on before everybody's part is there
        parts = _parts(folder)
        known = _known(parts)
        return Vectors(parts, np.array([known[key] for key in keys], dtype=np.int32))

    def _prompt(self, kind: str) -> str:
        """The prompt of the settings, else the model's own."""
        settings = self.settings
        given = settings.query_prompt if kind == "query" else settings.passage_prompt
        own = ("query",) if kind == "query" else ("document", "passage", "corpus")
        return given or next((self.model.prompts[name] for name in own if name in self.model.prompts), "")

    def _encode(self, texts: dict[bytes, str], kind: str, prompt: str) -> Iterator[npt.NDArray[Any]]:
        """Parts of the cache, at most PART rows each: arrays of `key` and `vector`."""
        keys, given = list(texts), list(texts.values())
        lengths, step = self._padded_lengths([prompt + text for text in given])
        order = np.argsort(-lengths, kind="stable")  # longest first: too little memory shows at once
        encode = self.model.encode_query if kind == "query" else self.model.encode_document
        for start in range(0, len(order), PART):
            chosen = order[start : start + PART]
            made = None
            for length in np.unique(lengths[chosen]):
                rows = np.flatnonzero(lengths[chosen] == length)
                vectors = encode(
                    [given[i] for i in chosen[rows]],
                    prompt=prompt or None,
                    batch_size=self.settings.batch_size,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                    normalize_embeddings=self.model.similarity_fn_name == "cosine",
                    processing_kwargs={"text": {"pad_to_multiple_of": step}},
                ).astype(np.float32)
                if made is None:
                    kind_of_row = [("key", "V16"), ("vector", "<f4", (vectors.shape[1],))]
                    made = np.empty(len(chosen), dtype=kind_of_row)
                made["vector"][rows] = vectors
            assert made is not None  # a part has at least one text
            made["key"] = np.array([keys[i] for i in chosen], dtype="V16")
            if not np.isfinite(made["vector"]).all():
                raise UserError(f"dense.path={self.settings.path}: it makes vectors that are not finite")
            yield made

    def _padded_lengths(self, texts: list[str]) -> tuple[npt.NDArray[np.int64], int]:
        """(N,) length in tokens to which each text is padded, and the multiple it is padded to."""
        from transformers import PreTrainedTokenizerBase

        tokenizer, longest = self.model.tokenizer, self.model.get_max_seq_length()
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or not texts:  # word vectors know no padding
            return np.zeros(len(texts), dtype=np.int64), PADDING
        longest = longest or tokenizer.model_max_length
        step = math.gcd(longest, PADDING)  # padding goes never beyond the model's positions
        lengths = [
            len(ids)
            for start in range(0, len(texts), PART)
            for ids in tokenizer(texts[start : start + PART], truncation=True, max_length=longest)[
                "input_ids"
            ]
        ]
        return -(-np.array(lengths, dtype=np.int64) // step) * step, step


def load_bi_encoder(settings: DenseSettings, *, device: str | None = None) -> BiEncoder:
    """Load the model that the settings name: hub id, folder or `package:NAME`.

    Args:
        settings: which model, with its prompts.
        device: `cpu`, `cuda`…; the fastest one present when None.

    Raises:
        UserError: nothing is named, sentence-transformers is not installed, or the model cannot be used.
    """
    from safetensors import SafetensorError

    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError(
            "dense.path: sentence-transformers is not installed", advice='pip install "uprank[st]"'
        ) from error
    location = locate_bi_encoder(settings)
    if Path(location).is_dir() and not (Path(location) / "modules.json").is_file():
        log.warning(
            "dense.path=%s: no modules.json says how vectors are made, so the mean of all tokens is taken; "
            "models that FlagEmbedding trained take the first token: save them with sentence-transformers",
            settings.path,
        )
    quiet_transformers()
    try:
        model = SentenceTransformer(
            location, device=str(choose_device(device)), model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"dense.path={settings.path}: cannot be loaded: {reason}") from error
    if model.similarity_fn_name not in SIMILARITIES:
        raise UserError(
            f"dense.path={settings.path}: compares by {model.similarity_fn_name}; "
            f"allowed are {' and '.join(SIMILARITIES)}"
        )
    fingerprint = _hash(
        "\n".join([hash_weights(model.state_dict()), repr(model), _tokenizer(model), str(model.truncate_dim)])
        + "\n".join(_configs(model))
        + f"\n{model.get_max_seq_length()} {model.similarity_fn_name}"
    )
    return BiEncoder(model.eval(), settings, fingerprint)


def locate_bi_encoder(settings: DenseSettings) -> str:
    """Folder or hub id of the model, checked as far as that is possible offline.

    Raises:
        UserError: nothing is named, or there is no model at this place.
    """
    if not settings.path:
        raise UserError("dense.path is not set: the bi-encoder that finds the passages")
    if (Path(settings.path).expanduser() / "modules.json").is_file():  # its parts may lie in subfolders
        return str(Path(settings.path).expanduser())
    try:
        return locate(settings.path)
    except UserError as error:
        problems = [problem.replace("model.path=", "dense.path=") for problem in error.problems]
        raise UserError(problems, advice="Give a sentence-transformers model: hub id or folder.") from None


def _configs(model: Any) -> list[str]:
    """Settings of the modules: what neither weights nor `repr` show, such as activations and epsilons."""
    found = []
    for module in model.modules():
        if hasattr(module, "get_config_dict"):
            found.append(json.dumps(module.get_config_dict(), sort_keys=True, default=str))
            if hasattr(getattr(module, "config", None), "to_dict"):
                found.append(hash_config(module.config))
    return found


def _tokenizer(model: Any) -> str:
    backend = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    to_text = getattr(backend, "to_str", None)
    return to_text() if to_text else repr(backend)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _parts(folder: Path) -> list[Any]:
    return [np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(folder.glob("*.npy"))]


def _known(parts: list[Any]) -> dict[bytes, tuple[int, int]]:
    """Where each text's vector lies; of two equal ones the same in every process, for files are sorted."""
    return {
        key.tobytes(): (number, row)
        for number, part in enumerate(parts)
        for row, key in enumerate(part["key"])
    }


def _write(folder: Path, part: npt.NDArray[Any]) -> None:
    """Write beside and rename: a reader sees a whole file or none."""
    name = hashlib.sha256(part["key"].tobytes()).hexdigest()[:32]
    beside = folder / f"{name}.{os.getpid()}.tmp"
    with beside.open("wb") as stream:
        np.save(stream, part, allow_pickle=False)
    beside.replace(folder / f"{name}.npy")
