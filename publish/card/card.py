"""The model card: every measured number in it is read from a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...configs.schema import ModelSettings
from ...configs.schema_publish import PublishCommand
from ...eval.results import Report, System
from ...eval.statistics import verdict
from ...eval.words import format_difference, format_estimate, format_p
from ..evidence import Evidence, Ruling, Source, compared, data_names, tuned_system
from ..merging import Merged
from ..onnx import NO_GRAPHS, Graphs
from ..parity import Proof, equally_cut_query
from ..weights import Prepared
from .metadata import evidence_names, metadata_yaml
from .onnx import onnx_part
from .parts import CardRow, data_part, example_part, merging_part, notes_words, scores_part
from .statistics import Sample, Statistics
from .training import training_rows

if TYPE_CHECKING:
    from ...model.reranker import Reranker

TEMPLATE = "card.md.j2"
CURVE = "evaluation/merging.svg"


@dataclass(frozen=True)
class Content:
    """Everything that is known of the published model.

    Attributes:
        source: what was read.
        prepared: the published weights and how they came from the measured ones.
        ruling: whether it is better than its baseline.
        proofs: the scores of the other libraries.
        places: folder of each report inside the published folder.
        merged: the mixtures that were tried; None without merging.
        statistics: of the dev data; None where it is out of reach.
        samples: dev queries with passages to show.
        graphs: for ONNX Runtime.
        notices: names of the licence texts that came with the base.
    """

    source: Source
    prepared: Prepared
    ruling: Ruling
    proofs: Sequence[Proof]
    places: Mapping[str, Evidence]
    merged: Merged | None = None
    statistics: Statistics | None = None
    samples: Sequence[Sample] = ()
    graphs: Graphs = NO_GRAPHS
    notices: Sequence[str] = ()

    @property
    def names(self) -> dict[str, str]:
        """Name of the data of each report, by its place."""
        return dict(zip(self.places, evidence_names(list(self.places.values())), strict=True))


def render_card(settings: PublishCommand, content: Content, reranker: Reranker) -> str:
    """README.md of the published folder.

    Args:
        settings: name, data sets and repository that the user gave.
        content: what is known.
        reranker: the published model.
    """
    title = settings.card.name or Path(settings.output).resolve().name
    source, ruling, measured = content.source, content.ruling, content.prepared.measured
    report = source.evidence[0].report
    tuned = _tuned(report, measured)
    pairs = reranker.pairs
    return _template().render(
        metadata=metadata_yaml(settings.card, source, measured, title, reranker.model.config.model_type),
        title=title,
        base=source.base.description,
        train=_train_words(source),
        verdict=verdict_words(ruling, report),
        further_verdicts=_further_verdicts(content),
        new_head=source.base.new_head,
        from_first_stage=ruling.from_first_stage,
        dev_chose=bool(source.manifest),
        forced=ruling.reason,
        tuned=tuned.name,
        baseline_words=_other_systems(report, tuned),
        evaluations=[_evaluation(place, found, content) for place, found in content.places.items()],
        model=settings.push.repo or Path(settings.output).resolve().name,
        pushed=settings.push.repo is not None,
        revision=settings.push.revision if settings.push.repo else None,
        example=example_part(reranker.prompts),
        max_tokens=pairs.max_tokens,
        query_tokens=pairs.query_tokens,
        equal_query=equally_cut_query(reranker),
        budgets=_budgets(pairs.query_tokens, pairs.max_tokens),
        proofs=[_proof_row(proof) for proof in content.proofs],
        proof_notes=_proof_notes(content.proofs),
        pairs_words=_pairs_words(source),
        onnx=onnx_part(
            content.graphs,
            model=settings.push.repo or Path(settings.output).resolve().name,
            pushed=settings.push.repo is not None,
        ),
        scores=scores_part(content.prepared, source),
        merged=merging_part(content.merged, source) if content.merged else None,
        curve=CURVE,
        data=data_part(content.statistics, content.samples, source),
        training=training_rows(source, merged=content.merged is not None and content.merged.changed),
        dataset_words=_dataset_words(settings.card.datasets, source),
        licence=_licence_words(source, content.notices),
        version=__version__,
        weights=content.prepared.weights,
        measured=measured,
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


def _further_verdicts(content: Content) -> list[tuple[str, str]]:
    """What the reports behind the first say on the same measure, so that a dev gain does not stand alone."""
    verdicts = []
    for place, found in list(content.places.items())[1:]:
        report, tuned = found.report, _tuned(found.report, content.prepared.measured)
        measure = content.source.evidence[0].report.measures[0]
        if measure not in report.measures:
            measure = report.measures[0]
        made = compared(found, tuned.name, measure, from_first_stage=content.ruling.from_first_stage)
        if made is not None:
            mean = report.system(made.baseline).results[measure].mean
            verdicts.append((f"{content.names[place]} ({found.split})", verdict(made, baseline_mean=mean)))
    return verdicts


def _other_systems(report: Report, tuned: System) -> str:
    meanings = {report.baseline: "the baseline", "base": "the model before tuning"}
    words = []
    for system in report.systems:
        meaning = "the first stage whose candidates it reranks" if system.kind == "first_stage" else ""
        meaning = meaning or meanings.get(system.name, "")
        if meaning and system is not tuned:
            words.append(f"`{system.name}` {meaning}")
    return ", ".join(words)


def _evaluation(place: str, found: Evidence, content: Content) -> dict[str, Any]:
    report, ruling = found.report, content.ruling
    calibrated = content.prepared.calibrated.form != "none"
    tuned = _tuned(report, content.prepared.measured)
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
        "name": content.names[place],
        "split": found.split,
        "guard": bool(content.source.manifest) and found.name not in _own_names(content.source),
        "measures": report.measures,
        "systems": [_system_row(system, report.measures, bold=system is tuned) for system in report.systems],
        "tuned": tuned.name,
        "baseline": made[0].baseline if made else "",
        "differences": differences,
        "notes": notes_words(report, tuned, calibrated=calibrated) + _measured_in(tuned),
    }


def _own_names(source: Source) -> set[str]:
    """Names of the data it was tuned and chosen on; any other is a guard."""
    parts = (source.manifest.get("data") or {}).values()
    paths = [part["path"] for part in parts if isinstance(part, dict) and part.get("path")]
    return {name for path in paths for name in data_names(path)}


def _measured_in(tuned: System) -> str:
    if tuned.precision in ("", "fp32"):
        return ""
    return f" Measured with matrix products in {tuned.precision}."


def _system_row(system: System, measures: Sequence[str], *, bold: bool) -> CardRow:
    cells = [f"`{system.name}`"]
    for measure in measures:
        estimate = system.results.get(measure)
        cells.append(format_estimate(estimate) if estimate else "not measured")
    return tuple(f"**{cell}**" if bold else cell for cell in cells)


def _train_words(source: Source) -> str:
    train = (source.manifest.get("data") or {}).get("train") or {}
    if not train.get("path"):
        return ""
    count = f"{train['groups']:,} groups of " if train.get("groups") else ""
    names = [f"`{name}`" for name in data_names(train["path"])]
    return count + (" and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0])


def _budgets(query_tokens: int, max_tokens: int) -> str:
    given = {"query_tokens": query_tokens, "max_tokens": max_tokens}
    defaults = ModelSettings()
    return "".join(f", {name}={value}" for name, value in given.items() if value != getattr(defaults, name))


def _proof_row(proof: Proof) -> CardRow:
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
    parts = [part["path"] for part in data.values() if isinstance(part, dict) and part.get("path")]
    used = [name for path in parts for name in data_names(path)]
    names = list(datasets) or list(dict.fromkeys(used or [found.name for found in source.evidence]))
    if source.data_licence is None:
        named = ", ".join(names)
        return f"The data it was tuned or measured on ({named}) has a licence of its own, unknown here."
    stated = f"`{source.data_licence.id}`, {source.data_licence.origin}"
    return f"Of the data it was tuned on ({', '.join(names)}): {stated}."


def _licence_words(source: Source, notices: Sequence[str]) -> str:
    if source.licence is None:
        return (
            "Unknown: neither the base model's card nor the publisher states one. Find it out before any use."
        )
    texts = ", ".join(f"[{name}]({name})" for name in notices)
    words = f" The text that came with the base: {texts}." if texts else ""
    return f"`{source.licence.id}`, {source.licence.origin}.{words}"
