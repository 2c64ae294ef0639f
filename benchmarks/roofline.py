"""Measure matrix products of a model's shapes on this machine: the limit of scoring speed.

    python benchmarks/roofline.py MODEL --work FOLDER [--tokenizer FOLDER] [--json FILE]

Four products of a transformer layer at 1,024 rows: query-key-value, attention output and the two of the
feed-forward. Each runs as PyTorch's plain linear and as oneDNN's with a prepacked weight, in one process of
all threads and in processes of one thread each. The limit is the best of these four ways.
"""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from common import make_parser, report, table
from models import model_folder

ROWS = 1024
SECONDS = 0.4  # for each kind of product in each measurement
PRECISIONS = ("fp32", "bf16")


def shapes(hidden: int, inner: int) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of a layer's products."""
    return [(hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden)]


def useful_flops(config: Any, lengths: Sequence[int]) -> float:
    """Return the floating-point operations that scores need: no padding, one token in the last layer.

    Counts linear layers and the two products of attention; a multiplication and an addition are two.

    Args:
        config: the model's configuration.
        lengths: tokens of each pair.
    """
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    total = 0
    for tokens in lengths:
        whole = tokens * (8 * hidden**2 + 4 * hidden * inner) + 4 * tokens**2 * hidden
        keys_values, first = tokens * 4 * hidden**2, 4 * hidden**2 + 4 * hidden * inner + 4 * tokens * hidden
        total += (layers - 1) * whole + keys_values + first + 2 * hidden**2 + 2 * hidden
    return float(total)


class Limit:
    """Repeated measurement of the limit, in this process and in waiting processes of one thread.

    Args:
        hidden: width of the model.
        inner: width of the feed-forward layer.
        threads: threads of this process, and number of one-thread processes.
    """

    def __init__(self, hidden: int, inner: int, threads: int) -> None:
        self.sizes, self.threads = shapes(hidden, inner), threads
        self.found: dict[str, dict[str, list[float]]] = {precision: {} for precision in PRECISIONS}
        context = multiprocessing.get_context("spawn")
        self._calls: dict[str, dict[str, Callable[[], float]]] = {
            p: _kinds(self.sizes, p) for p in PRECISIONS
        }
        self._ends: list[Connection] = []
        self._processes = []
        for _ in range(threads if threads > 1 else 0):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, self.sizes), daemon=True)
            process.start()
            self._ends.append(ours)
            self._processes.append(process)

    def measure(self) -> None:
        """Measure GFLOP/s of every kind and precision for one round."""
        import torch

        torch.set_num_threads(self.threads)
        for precision in PRECISIONS:
            for kind, call in self._calls[precision].items():
                self._add(precision, f"{kind}, 1 process x {self.threads} threads", call())
                for end in self._ends:
                    end.send((precision, kind))
                if self._ends:
                    name = f"{kind}, {self.threads} processes x 1 thread"
                    self._add(precision, name, sum(end.recv() for end in self._ends))

    def _add(self, precision: str, name: str, value: float) -> None:
        self.found[precision].setdefault(name, []).append(value)

    def best(self, precision: str) -> float:
        """Return the limit in GFLOP/s: the best median of all kinds."""
        return max(median(values) for values in self.found[precision].values())

    def table(self) -> str:
        """Return a table with the medians of all kinds."""
        rows = [
            [precision, kind, median(values), min(values), max(values)]
            for precision, kinds in self.found.items()
            for kind, values in kinds.items()
        ]
        return table(["precision", "matrix products", "GFLOP/s (median)", "least", "most"], rows)

    def close(self) -> None:
        """End the waiting processes."""
        for end, process in zip(self._ends, self._processes, strict=True):
            end.send(None)
            process.join()


def _serve(end: Connection, sizes: list[tuple[int, int]]) -> None:
    import torch

    torch.set_num_threads(1)
    calls = {precision: _kinds(sizes, precision) for precision in PRECISIONS}
    while (asked := end.recv()) is not None:
        precision, kind = asked
        end.send(calls[precision][kind]())


def _kinds(sizes: list[tuple[int, int]], precision: str) -> dict[str, Callable[[], float]]:
    """Return measurements by name; each returns the GFLOP/s of one layer's products."""
    import torch

    kind = torch.float32 if precision == "fp32" else torch.bfloat16
    inputs = [torch.randn(ROWS, width).to(kind) for width, _ in sizes]
    weights = [torch.randn(out, width).to(kind) * 0.02 for width, out in sizes]
    biases = [torch.zeros(out, dtype=kind) for _, out in sizes]

    def plain() -> None:
        for x, weight, bias in zip(inputs, weights, biases, strict=True):
            torch.nn.functional.linear(x, weight, bias)

    kinds = {"torch linear": plain}
    if torch.backends.mkldnn.is_available():
        packed = [torch.ops.mkldnn._reorder_linear_weight(weight, ROWS) for weight in weights]

        def prepacked() -> None:
            for x, weight, bias in zip(inputs, packed, biases, strict=True):
                torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

        kinds["oneDNN, weight prepacked"] = prepacked
    flops = sum(2 * ROWS * width * out for width, out in sizes)
    return {name: lambda call=call: _speed(call, flops) for name, call in kinds.items()}


def _speed(call: Callable[[], None], flops: float) -> float:
    import torch

    with torch.inference_mode():
        call()
        begun, calls = time.perf_counter(), 0
        while time.perf_counter() - begun < SECONDS:
            call()
            calls += 1
    return flops * calls / (time.perf_counter() - begun) / 1e9


def main() -> None:
    parser = make_parser(__doc__, model=False)
    parser.add_argument("model", help="`base`, `package:NAME` or the folder of a cross-encoder")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    given = parser.parse_args()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_folder(given.model, given.work, given.tokenizer))
    limit = Limit(config.hidden_size, config.intermediate_size, given.threads)
    for _ in range(given.rounds):
        limit.measure()
    limit.close()
    best = {precision: limit.best(precision) for precision in PRECISIONS}
    title = f"Matrix products of {config.hidden_size} x {config.intermediate_size} at {ROWS} rows"
    summary = ", ".join(f"{value:.0f} GFLOP/s {precision}" for precision, value in best.items())
    report(given, {title: f"{limit.table()}\n\nLimit: {summary}."}, {"limit": best, "all": limit.found})


if __name__ == "__main__":
    main()
