"""Embed texts with a bi-encoder; each vector is computed once and cached under the hash of its text.

A vector depends on its text and the model alone, not on the batch it was encoded in: texts are padded to a
multiple of 32 tokens and encoded with others of the same padded length. So one process and several, a killed
run and a complete one, an empty cache and a full one give the same bits (measured on CPUs; a BLAS may compute
a row of a product differently beside other rows, which no padding can mend).

Each row of the cache has a checksum, read before the row is used: a damaged one is encoded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import zlib
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
from ...model.load import check_encoder, quiet_transformers
from ...model.locate import locate
from ...model.reranker import choose_device
from ...model.weights import hash_weights
from ..processes import Share

log = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]
PADDING = 32  # tokens: few enough to waste little, many enough for batches of one length
PART = 1024  # texts written to the cache together: what a kill costs
SIMILARITIES = ("cosine", "dot")
VERSION = 2  # of the rows in the cache


@dataclass(frozen=True)
class Vectors:
    """N vectors in the cache, read on demand.

    Attributes:
        cached: every row of the cache, memory-mapped.
        places: (N,) row of each vector.
    """

    cached: Any
    places: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, start: int, stop: int) -> Floats:
        """Return vectors `start` to `stop`, shape (stop - start, D)."""
        vectors: Floats = self.cached["vector"][self.places[start:stop]]
        return vectors


@dataclass(frozen=True)
class BiEncoder:
    """A sentence-transformers model; FlagEmbedding's encoders load as such, too.

    Attributes:
        model: the model.
        settings: path, prompts and batch size.
        fingerprint: hash of what decides a vector besides its text: weights, modules, configs, tokenizer
            and length.
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
        """Return the vectors of the texts, in their order; cached texts are not encoded again.

        Args:
            texts: any texts, at least one.
            kind: `query` or `passage`; selects the prompt.
            share: share of this rank, which encodes its part and reads everything.
            progress: called with the number of texts encoded since the last call.

        Raises:
            UserError: a vector is not finite, or the cache cannot be written.
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
        folder = (
            cache_folder() / "embeddings" / _hash(f"{VERSION}\n{self.fingerprint}\n{kind}\n{prompt}")[:32]
        )
        folder.mkdir(parents=True, exist_ok=True)
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
        own = dict(zip(keys[share.index :: share.count], texts[share.index :: share.count], strict=True))
        # Independent runs wait here, and then find everything done.
        with FileLock(folder / f"{share.index}-of-{share.count}.lock"):
            known = _places(_cached(folder))
            missing = {key: text for key, text in own.items() if key not in known}
            for batch in self._encode(missing, kind, prompt):
                _append(folder, batch)
                if progress:
                    progress(len(batch))
        share.total(np.zeros(1))  # waits for every rank's part
        cached = _cached(folder)
        known = _places(cached)
        return Vectors(cached, np.array([known[key] for key in keys], dtype=np.int64))

    def _prompt(self, kind: str) -> str:
        """Return the prompt of the settings, else the model's own."""
        settings = self.settings
        given = settings.query_prompt if kind == "query" else settings.passage_prompt
        own = ("query",) if kind == "query" else ("document", "passage", "corpus")
        return given or next((self.model.prompts[name] for name in own if name in self.model.prompts), "")

    def _encode(self, texts: dict[bytes, str], kind: str, prompt: str) -> Iterator[npt.NDArray[Any]]:
        """Yield rows for the cache, at most PART at a time: arrays of `key` and `vector`."""
        keys, given = list(texts), list(texts.values())
        lengths, step = self._padded_lengths([prompt + text for text in given])
        order = np.argsort(-lengths, kind="stable")  # longest first: a lack of memory shows at once
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
                    made = np.empty(len(chosen), dtype=_row(vectors.shape[1]))
                made["vector"][rows] = vectors
            assert made is not None  # a part has at least one text
            made["key"] = np.array([keys[i] for i in chosen], dtype="V16")
            made["check"] = _check(made)
            if not np.isfinite(made["vector"]).all():
                raise UserError(f"dense.path={self.settings.path}: it makes vectors that are not finite")
            yield made

    def _padded_lengths(self, texts: list[str]) -> tuple[npt.NDArray[np.int64], int]:
        """Return (N,) the length in tokens that each text is padded to, and the multiple it is padded to."""
        from transformers import PreTrainedTokenizerBase

        tokenizer, longest = self.model.tokenizer, self.model.get_max_seq_length()
        if not isinstance(tokenizer, PreTrainedTokenizerBase) or not texts:  # word vectors have no padding
            return np.zeros(len(texts), dtype=np.int64), PADDING
        longest = longest or tokenizer.model_max_length
        step = math.gcd(longest, PADDING)  # padding never exceeds the model's positions
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
        settings: model and prompts.
        device: `cpu`, `cuda`…; the fastest one present if None.

    Raises:
        UserError: no model is named, sentence-transformers is not installed, or the model cannot be used.
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
            location,
            device=str(choose_device(device)),
            model_kwargs={"use_safetensors": True},
            trust_remote_code=False,
        )
        if hasattr(encoder := getattr(model[0], "auto_model", None), "from_pretrained"):
            check_encoder(settings.path or "", location, kind=type(encoder))
    except UserError as error:
        raise _of_dense(error) from error
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
    """Return folder or hub id of the model, checked as far as possible offline.

    Raises:
        UserError: no model is named, or there is none at this place.
    """
    if not settings.path:
        raise UserError("dense.path is not set: the bi-encoder that finds the passages")
    if (Path(settings.path).expanduser() / "modules.json").is_file():  # its parts may lie in subfolders
        return str(Path(settings.path).expanduser())
    try:
        return locate(settings.path)
    except UserError as error:
        advice = "Give a sentence-transformers model: hub id or folder."
        raise UserError(_of_dense(error).problems, advice=advice) from None


def _of_dense(error: UserError) -> UserError:
    """Return a problem of a model as one of `dense.path`."""
    problems = [problem.replace("model.path=", "dense.path=") for problem in error.problems]
    return UserError(problems, advice=error.advice)


def _configs(model: Any) -> list[str]:
    """Return settings of the modules that neither weights nor `repr` show: activations, epsilons and such."""
    configs = []
    for module in model.modules():
        if hasattr(module, "get_config_dict"):
            configs.append(json.dumps(module.get_config_dict(), sort_keys=True, default=str))
            if hasattr(getattr(module, "config", None), "to_dict"):
                configs.append(hash_config(module.config))
    return configs


def _tokenizer(model: Any) -> str:
    backend = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    to_text = getattr(backend, "to_str", None)
    return to_text() if to_text else repr(backend)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _row(size: int) -> np.dtype[Any]:
    return np.dtype([("key", "V16"), ("vector", "<f4", (size,)), ("check", "<u4")])


def _check(rows: npt.NDArray[Any]) -> npt.NDArray[np.uint32]:
    """Return (N,) the CRC-32 of each row's key and vector; one flipped bit, or four bytes, always show."""
    size = rows.dtype.itemsize
    data = rows.data.cast("B")
    ends = range(size, len(data) + 1, size)
    return np.fromiter((zlib.crc32(data[end - size : end - 4]) for end in ends), np.uint32, len(rows))


def _cached(folder: Path) -> Any:
    """Return the rows of the cache, memory-mapped, without an incomplete one at the end."""
    for file in folder.glob("*.rows"):
        row = _row(int(file.stem))
        if count := file.stat().st_size // row.itemsize:
            return np.memmap(file, row, "r", shape=(count,))
    return np.empty(0, _row(0))


def _places(cached: Any) -> dict[bytes, int]:
    """Return the row of each key; the first undamaged one if the same text was encoded twice."""
    places: dict[bytes, int] = {}
    for start in range(0, len(cached), PART):
        rows = np.asarray(cached[start : start + PART])
        whole = rows["check"] == _check(rows)
        for place in np.flatnonzero(whole).tolist():
            places.setdefault(rows["key"][place].tobytes(), start + place)
    return places


def _append(folder: Path, rows: npt.NDArray[Any]) -> None:
    """Append rows to the file of the cache, named by the vectors' size, after its last complete row."""
    from filelock import FileLock

    with (
        FileLock(folder / "append.lock"),
        (folder / f"{rows['vector'].shape[1]}.rows").open("ab") as stream,
    ):
        stream.truncate(stream.tell() // rows.itemsize * rows.itemsize)  # a killed process left part of a row
        stream.write(rows.tobytes())
