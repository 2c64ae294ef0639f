"""The model card: every measured number in it is read from a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .. import __version__
from ..configs.schema import ModelSettings, PublishCommand
from ..eval.compare import verdict
from ..eval.report import Report, System
from ..eval.table import format_difference, format_estimate, format_p, notes
from .gate import Ruling, compared, tuned_system
from .metadata import metadata_yaml
from .probes import equally_cut_query
from .sources import Evidence, Source, data_name
from .training import training_rows
from .verify import Proof

if TYPE_CHECKING:
    from ..model.reranker import Reranker

TEMPLATE = "card.md.j2"
Row = tuple[str, ...]


def render(
    settings: PublishCommand,
    source: Source,
    reranker: Reranker,
    weights: str,
    ruling: Ruling,
    proofs: Sequence[Proof],
    places: Mapping[str, Evidence],
) -> str:
    """README.md of the published folder.

    Args:
        settings: name, data sets and repository that the user gave.
        source: what was read.
        reranker: the published model.
        weights: its hash.
        ruling: whether it is better than its baseline.
        proofs: the scores of the other libraries.
        places: folder of each report inside the published folder.
    """
    title = settings.card.name or Path(settings.output).resolve().name
    report = source.evidence[0].report
    tuned = _tuned(report, weights)
    pairs = reranker.pairs
    return _template().render(
        metadata=metadata_yaml(settings.card, source, weights, title, reranker.model.config.model_type),
        title=title,
        base=source.base.description,
        train=_train_words(source),
        verdict=verdict_words(ruling, report),
        new_head=source.base.new_head,
        from_first_stage=ruling.from_first_stage,
        dev_chose=bool(source.manifest),
        forced=ruling.reason,
        tuned=tuned.name,
        baseline_words=_other_systems(report, tuned),
        evaluations=[_evaluation(place, found, weights, ruling) for place, found in places.items()],
        model=settings.push.repo or Path(settings.output).resolve().name,
        pushed=settings.push.repo is not None,
        max_tokens=pairs.max_tokens,
        query_tokens=pairs.query_tokens,
        equal_query=equally_cut_query(reranker),
        budgets=_budgets(pairs.query_tokens, pairs.max_tokens),
        proofs=[_proof_row(proof) for proof in proofs],
        proof_notes=_proof_notes(proofs),
        pairs_words=_pairs_words(source),
        training=training_rows(source),
        dataset_words=_dataset_words(settings.card.datasets, source),
        licence=_licence_words(source),
        version=__version__,
        weights=weights,
    )


def _template() -> Any:
    loader = FileSystemLoader(Path(__file__).parent)
    # Markdown, not HTML: nothing is escaped; a name that is not given is a mistake here.
    environment = Environment(
        loader=loader,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(TEMPLATE)


def _tuned(report: Report, weights: str) -> System:
    system = tuned_system(report, weights)
    assert system is not None, "gate.check_evidence comes first"
    return system


def verdict_words(ruling: Ruling, report: Report) -> str:
    """What the first report says about the model, in a sentence."""
    comparison = ruling.comparison
    if comparison is None:
        return f"Not compared with anything: {ruling.reason}"
    mean = report.system(comparison.baseline).results[comparison.measure].mean
    return verdict(comparison, baseline_mean=mean)


def _other_systems(report: Report, tuned: System) -> str:
    meanings = {report.baseline: "the baseline", "base": "the model before tuning"}
    words = []
    for system in report.systems:
        meaning = "the first stage whose candidates it reranks" if system.kind == "first_stage" else ""
        meaning = meaning or meanings.get(system.name, "")
        if meaning and system is not tuned:
            words.append(f"`{system.name}` {meaning}")
    return ", ".join(words)


def _evaluation(place: str, found: Evidence, weights: str, ruling: Ruling) -> dict[str, Any]:
    report = found.report
    tuned = _tuned(report, weights)
    comparisons = [
        compared(found, tuned.name, measure, from_first_stage=ruling.from_first_stage)
        for measure in report.measures
    ]
    made = [c for c in comparisons if c is not None]
    differences = [
        (
            c.measure,
            format_difference(c),
            format_p(c.p).removeprefix("p = ").removeprefix("p "),
            f"{c.wins} / {c.ties} / {c.losses}",
        )
        for c in made
    ]
    return {
        "place": f"{place}/report.json",
        "name": found.name,
        "split": found.split,
        "measures": report.measures,
        "systems": [_system_row(system, report.measures, bold=system is tuned) for system in report.systems],
        "tuned": tuned.name,
        "baseline": made[0].baseline if made else "",
        "differences": differences,
        "notes": _notes(report, tuned),
    }


def _system_row(system: System, measures: Sequence[str], *, bold: bool) -> Row:
    cells = [f"`{system.name}`"]
    for measure in measures:
        estimate = system.results.get(measure)
        cells.append(format_estimate(estimate) if estimate else "not measured")
    return tuple(f"**{cell}**" if bold else cell for cell in cells)


def _notes(report: Report, tuned: System) -> str:
    others = tuple(f"{system.name}: " for system in report.systems if system is not tuned)
    return " ".join(note.text for note in notes(report) if not note.text.startswith(others))


def _train_words(source: Source) -> str:
    train = (source.manifest.get("data") or {}).get("train") or {}
    if not train.get("path"):
        return ""
    count = f"{train['groups']:,} groups of " if train.get("groups") else ""
    return f"{count}`{data_name(str(train['path']))}`"


def _budgets(query_tokens: int, max_tokens: int) -> str:
    given = {"query_tokens": query_tokens, "max_tokens": max_tokens}
    defaults = ModelSettings()
    return "".join(f", {name}={value}" for name, value in given.items() if value != getattr(defaults, name))


def _proof_row(proof: Proof) -> Row:
    if proof.largest_difference is None:
        return proof.library, f"`{proof.loader}`", "0", f"not checked: {proof.not_checked}", "–"
    numbers = (str(proof.pairs), f"{proof.largest_difference:.1e}", f"{proof.allowed:.1e}")
    return f"{proof.library} {proof.version}", f"`{proof.loader}`", *numbers


def _proof_notes(proofs: Sequence[Proof]) -> list[str]:
    return [
        f"{proof.library}: {count} {'pair' if count == 1 else 'pairs'} left out: {reason}."
        for proof in proofs
        for reason, count in (proof.left_out or {}).items()
    ]


def _pairs_words(source: Source) -> str:
    names = " and ".join(dict.fromkeys(f"`{found.name}`" for found in source.evidence))
    return f"The pairs come from {names} where its files were at hand, and from a list of difficult ones."


def _dataset_words(datasets: Sequence[str], source: Source) -> str:
    data = source.manifest.get("data") or {}
    used = [
        data_name(str(part["path"])) for part in data.values() if isinstance(part, dict) and part.get("path")
    ]
    names = list(datasets) or list(dict.fromkeys(used or [found.name for found in source.evidence]))
    return f"The data it was tuned or measured on ({', '.join(names)}) has a licence of its own."


def _licence_words(source: Source) -> str:
    if source.licence is None:
        return (
            "Unknown: neither the base model's card nor the publisher states one. Find it out before any use."
        )
    return f"`{source.licence.id}`, {source.licence.origin}."
