"""The text of a plan: each figure with its parts, and what to change if it does not fit."""

from __future__ import annotations

from statistics import median

from rich.console import Console
from rich.table import Table

from ..monitor import savings, size_words
from ..state import Run
from .plan import Plan


def print_plan(plan: Plan, run: Run, console: Console) -> None:
    """Print the plan on a terminal or into a pipe."""
    table, rows = Table.grid(padding=(0, 2)), plan_rows(plan, run)
    for row in rows:
        table.add_row(*row)
    if console.is_terminal:
        console.print(table)
    lines = [] if console.is_terminal else [f"{name:<14}{text}" for name, text in rows]  # a pipe has no width
    for line in [*lines, "", *plan_problems(plan, run), "Nothing was trained, and nothing written."]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def plan_rows(plan: Plan, run: Run) -> list[tuple[str, str]]:
    """Return the name and text of each figure."""
    train, budgets, processes = run.settings.train, run.reranker.budgets, plan.processes
    groups = "a stream of groups" if plan.groups is None else f"{plan.groups:,} groups"
    epochs = "" if plan.epochs is None else f", {plan.epochs:.3g} epochs"
    tokens = [size.tokens for size in plan.sizes]
    pairs = round(median(size.pairs for size in plan.sizes))
    counted = f"{len(tokens)} of {plan.steps:,} steps" if len(tokens) < plan.steps else "every step"
    packed = ", which packing avoids" if run.reranker.scorer.packed else "; this model cannot be packed"
    cut = f"{plan.truncated[0]:.1%} of the pairs and {plan.truncated[1]:.1%} of the queries lose tokens"
    every, trained = plan.parameters
    parts = {
        "Python, libraries and data": plan.bytes.before,
        "weights": plan.bytes.weights,
        "gradients": plan.bytes.gradients,
        "optimizer states": plan.bytes.states,
        "averaged weights": plan.bytes.average,
        "activations and copies": plan.bytes.rest,
    }
    made_of = ", ".join(f"{name} {size_words(size)}" for name, size in parts.items() if size)
    each = f" in each of {processes} processes" if processes > 1 else ""
    learning = plan.steps * plan.step_seconds
    times = (
        f"{plan.steps:,} steps of {time_words(plan.step_seconds)} are {time_words(learning)}, "
        f"{plan.evaluations} evaluations of {time_words(plan.evaluation_seconds)} are "
        f"{time_words(plan.seconds - learning)}; loading, saving and the report come on top"
    )
    kept = f"best and last model, {train.keep_checkpoints} checkpoints and one being written"
    memory = f"at most {size_words(plan.bytes.peak)}{each} of {size_words(plan.available)}: {made_of}"
    return [
        ("training data", f"{groups}{epochs}, {plan.steps:,} steps of {train.queries_per_step} queries"),
        ("a step", f"{round(median(tokens)):,} tokens, at most {max(tokens):,}; {pairs:,} pairs ({counted})"),
        ("padding", f"{plan.padding:.1%} of padded batches of {run.tokens_per_batch:,} tokens{packed}"),
        ("truncation", f"{cut} at model.query_tokens={budgets[0]} and model.max_tokens={budgets[1]}"),
        ("parameters", f"{every:,}, {'all' if trained == every else f'{trained:,}'} of them trained"),
        ("memory", memory),
        ("time", f"{time_words(plan.seconds)}: {times}"),
        ("disk", f"at most {size_words(plan.disk)} of {size_words(plan.free)} free: {kept}"),
    ]


def plan_problems(plan: Plan, run: Run) -> list[str]:
    """Return what does not fit and what to change, or that everything fits."""
    lines = []
    if plan.bytes.peak * plan.processes > plan.available:
        same, other = savings(run)
        same.insert(0, f"train.tokens_per_batch={max(run.tokens_per_batch // 2, run.reranker.budgets[1])}")
        fewer = ["fewer processes on this machine"] if plan.processes > 1 else []
        lines.append(
            f"Memory is not enough. The same result with less: {', '.join([*same, *fewer])}. "
            f"Another run: {', or '.join(other)}."
        )
    if plan.disk > plan.free:
        keep = " train.keep_checkpoints=1," if run.settings.train.keep_checkpoints > 1 else ""
        lines.append(f"The disk is too full. Set{keep} another output, or make room.")
    return lines or ["It fits."]


def time_words(seconds: float) -> str:
    """Return a duration in words.

    >>> time_words(0.0213), time_words(3.21), time_words(75), time_words(9000)
    ('21 ms', '3.2 s', '1 min 15 s', '2 h 30 min')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
