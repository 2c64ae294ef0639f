"""Run a reranker from an ONNX or OpenVINO graph and `tokenizer.json`, without torch or transformers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import UserError
from ...configs.schema import ScoredModelSettings
from ...data.encoding import PairEncoder, choose_budgets
from ...data.prompts import choose_prompts
from ...data.store import hash_file
from .openvino import Run, open_openvino
from .peer import Pair, Peer, depends_on_batch

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Paths where optimum, sentence-transformers and `uprank publish` put a graph.
PLACES = {
    "onnx": ("onnx/model.onnx", "model.onnx"),
    "openvino": ("openvino/openvino_model.xml", "openvino_model.xml"),
}
# x86 CPUs without VNNI add two products of uint8 and int8 in 16 bits. They saturate (2 * 255 * 127 > 32,767),
# and scores change in silence. With this, ONNX Runtime uses other instructions there, and only there.
EXACT_PRODUCTS = ("session.x64quantprecision", "1")
DYNAMIC = b"DynamicQuantize"  # prefix of operators whose scale depends on the batch


def find_graph(path: str, backend: str = "onnx") -> tuple[Path, Path]:
    """Return the graph and the folder of its tokenizer.

    Args:
        path: a folder with one of `PLACES`, or a file `….onnx` or `….xml` in such a folder.
        backend: `onnx` or `openvino`.

    Raises:
        UserError: graph or tokenizer is missing.
    """
    given, places = Path(path).expanduser(), PLACES[backend]
    if given.suffix == Path(places[0]).suffix and given.is_file():
        graph, folders = given, [given.parent, given.parent.parent]
    else:
        found = next((given / place for place in places if (given / place).is_file()), None)
        if found is None:
            raise UserError(f"model.path={path}: neither {' nor '.join(places)} is in this folder")
        graph, folders = found, [given, found.parent]
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return graph, folder
    raise UserError(f"model.path={path}: no tokenizer.json beside {graph.name}")


def load_onnx(
    settings: ScoredModelSettings,
    *,
    device: str | None = None,
    tokens_per_batch: int | None = None,
    threads: int | None = None,
) -> Peer:
    """Open a graph; budgets and prompts that are not set are those stated in its folder.

    A dynamically quantised graph scales its activations by the whole batch, so a score depends on the other
    pairs and the padding: such a graph, and any other whose scores are found to do so, is given one pair at a
    time.

    Args:
        settings: graph, backend (`onnx` or `openvino`), token budgets and prompts.
        device: used in place of `settings.device` if not None.
        tokens_per_batch: tokens in one padded batch; 2,048 if None.
        threads: CPU threads; `OMP_NUM_THREADS`, else the library's choice, if None.

    Raises:
        UserError: the graph cannot be run, or is not a reranker.
    """
    path, backend = settings.path, settings.backend
    graph, folder = find_graph(path, backend)
    config = _read_json(folder / "config.json")
    tokenizer = FastTokenizer(folder)
    stated = config.get("uprank")
    budgets = choose_budgets(
        tokenizer, settings.query_tokens, settings.max_tokens, positions=_positions(config), stated=stated
    )
    pairs = PairEncoder(tokenizer, query_tokens=budgets[0], max_tokens=budgets[1])
    threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or None
    open_graph = _open if backend == "onnx" else open_openvino
    names, run, target = open_graph(path, graph, device or settings.device, threads)
    if "input_ids" not in names or not set(names) <= set(INPUTS):
        raise UserError(
            f"{graph}: inputs {', '.join(names)}; those of a reranker are {', '.join(INPUTS)}",
            advice="Export it as transformers' forward: token ids and mask in, one logit out.",
        )
    padding = config.get("pad_token_id") or 0

    def predict(batch: list[Pair]) -> np.ndarray:
        inputs = _padded(pairs, batch, padding)
        (logits, *_) = run({name: inputs[name] for name in names})
        if logits.size != len(batch):
            raise UserError(
                f"{graph}: gives {logits.shape} for {len(batch)} pairs; a reranker gives one logit each"
            )
        scores: np.ndarray = np.asarray(logits, dtype=np.float32).reshape(len(batch))
        return scores

    # Tried here, to find a graph that is not a reranker before candidates are scored.
    try:
        predict([("a", "b")])
        alone = DYNAMIC in graph.read_bytes() or depends_on_batch(predict)
    except UserError:
        raise
    except Exception as error:  # the runtimes' errors share no base class
        raise UserError(f"model.path={path}: {graph.name} cannot be run: {error}".splitlines()[0]) from error
    return Peer(
        backend,
        predict,
        tokenizer,
        pairs,
        budgets,
        _hash(graph),
        path,
        target,
        tokens_per_batch or 2048,
        settings={"padding": padding},
        alone=alone,
        prompts=choose_prompts(settings.query_prompt, settings.passage_prompt, stated),
    )


class FastTokenizer:
    """The part of a transformers tokenizer that `PairEncoder` uses, on top of `tokenizers` alone."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.backend_tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.backend_tokenizer.no_truncation()
        self.backend_tokenizer.no_padding()
        settings = _read_json(folder / "tokenizer_config.json")
        self._types = "token_type_ids" in (settings.get("model_input_names") or INPUTS)
        self.model_max_length = int(settings.get("model_max_length") or 10**30)
        added = self.backend_tokenizer.get_added_tokens_decoder()
        special = {token: entry.content for token, entry in sorted(added.items()) if entry.special}
        self.all_special_ids, self.all_special_tokens = list(special), list(special.values())
        unknown = settings.get("unk_token")
        named = unknown["content"] if isinstance(unknown, dict) else unknown
        ids = (self.backend_tokenizer.token_to_id(text) for text in (named, "<unk>", "[UNK]") if text)
        self.unk_token_id = next((token for token in ids if token is not None), None)

    def __call__(self, first: Any, second: str | None = None, **settings: Any) -> dict[str, Any]:
        """Return the ids of a list of texts, or the ids and types of one pair."""
        specials = settings.get("add_special_tokens", True)
        self.backend_tokenizer.encode_special_tokens = settings.get("split_special_tokens", False)
        if isinstance(first, str):
            one = self.backend_tokenizer.encode(first, second, add_special_tokens=specials)
            return {"input_ids": one.ids, **({"token_type_ids": one.type_ids} if self._types else {})}
        many = self.backend_tokenizer.encode_batch_fast(first, add_special_tokens=specials)
        return {"input_ids": [entry.ids for entry in many]}

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]:
        """Return the ids of tokens; the unknown token's id for any other string."""
        known = ((self.backend_tokenizer.token_to_id(token), self.unk_token_id) for token in tokens)
        return [unknown if token is None else token for token, unknown in known]


def _padded(pairs: PairEncoder, batch: list[Pair], padding: int) -> dict[str, np.ndarray]:
    """Return the inputs of a batch by name, each (B, L) int64."""
    encoded = [pairs.encode(query, passage) for query, passage in batch]
    shape = len(batch), max(len(pair.ids) for pair in encoded)
    ids = np.full(shape, padding, dtype=np.int64)
    mask, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, pair in enumerate(encoded):
        length = len(pair.ids)
        ids[row, :length], types[row, :length], mask[row, :length] = pair.ids, pair.types, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _open(path: str, graph: Path, device: str | None, threads: int | None) -> tuple[list[str], Run, str]:
    """Open a graph in ONNX Runtime; see `open_openvino`."""
    onnxruntime = import_onnxruntime()
    onnxruntime.set_default_logger_severity(3)
    gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers() and device != "cpu"
    if device not in (None, "cpu") and not gpu:
        raise UserError(f"model.device={device}: this onnxruntime has no provider for it; allowed is cpu")
    providers: list[Any] = ["CPUExecutionProvider"]
    if gpu:
        number = int((device or "cuda:0").partition(":")[2] or 0)
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
    session: Any = None
    for exact in (True, False):  # there are no exact products of signed activations, and no need of them
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        if exact:
            options.add_session_config_entry(*EXACT_PRODUCTS)
        try:
            session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
            break
        except Exception as error:  # onnxruntime's errors share no base class
            if exact and "NOT_IMPLEMENTED" in str(error):
                continue
            raise UserError(
                f"model.path={path}: {graph.name} cannot be run: {str(error).splitlines()[0]}"
            ) from error

    def run(inputs: dict[str, np.ndarray]) -> list[Any]:
        try:
            outputs: list[Any] = session.run(None, inputs)
        except Exception as error:  # a graph may hold the lengths that it was traced with
            reason = str(error).splitlines()[0]
            raise UserError(f"model.path={path}: {graph.name} cannot be run: {reason}") from error
        return outputs

    return [entry.name for entry in session.get_inputs()], run, "cuda" if gpu else "cpu"


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry switched off, for which nobody asked.

    Since 1.29 it sends events to Microsoft on Linux, too, and keeps an identifier in the user's cache, unless
    the variable is set before its first import in the process; the call stops what can still be stopped.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _hash(graph: Path) -> str:
    """Return `sha256:…` over the graph and its weight files: those whose name the graph contains."""
    digest, content = hashlib.sha256(), graph.read_bytes()
    named = [file for file in graph.parent.rglob("*") if file.is_file() and file.name.encode() in content]
    named += [graph.with_suffix(".bin")] if graph.suffix == ".xml" else []  # OpenVINO does not name its own
    for file in [graph, *sorted(set(named) - {graph})]:
        digest.update(f"{'' if file == graph else file.relative_to(graph.parent).as_posix()}\n".encode())
        hash_file(file, digest)
    return "sha256:" + digest.hexdigest()


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from error
    return content if isinstance(content, dict) else {}


def _positions(config: dict[str, Any]) -> int | None:
    """Return the longest sequence; RoBERTa counts positions from the padding id on."""
    longest = config.get("max_position_embeddings")
    if not isinstance(longest, int) or longest < 1:
        return None
    offset = (config.get("pad_token_id") or 0) + 1 if "roberta" in config.get("model_type", "") else 0
    return longest - offset
