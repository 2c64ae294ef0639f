"""The model card: every number in it is read from a report, a proof or the manifest of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ...configs.schema import ModelSettings
from ...configs.schema_publish import PublishCommand
from ...eval.report import LEVELS, notes
from ...eval.results import Comparison, Report, System
from ...eval.statistics import verdict
from ...eval.words import format_difference, format_estimate, format_p
from ..evidence import Evidence, Ruling, Source, compared, data_names, tuned_system
from ..merging import Merged
from ..onnx import BATCH, NO_GRAPHS, OPSET, Graphs
from ..parity import Proof, equally_cut_query
from ..weights import Prepared
from .data import Sample, Statistics, training_facts
from .metadata import candidates_words, evidence_names, metadata_yaml
from .text import code, example_pairs, inline, mixture_rows, mixture_words, named, plain, span
from .training import training_rows

if TYPE_CHECKING:
    from ...model.reranker import Reranker

TEMPLATE = "card.md.j2"
CURVE = "evaluation/merging.svg"
SCALED = ("spread", "calibration")  # audits of the scale of the scores, which calibration changes


@dataclass(frozen=True)
class Content:
    """Everything that is known about the published model; the template reads it by these names.

    Attributes:
        source: what was read.
        prepared: the published weights and how they came from the measured ones.
        ruling: the gate's decision on the first report.
        proofs: scores of the other libraries.
        places: folder of each report inside the published folder.
        merged: the mixtures that were tried; None without merging.
        statistics: counts of the dev data; None if it is out of reach.
        samples: dev queries with passages to show.
        graphs: files for ONNX Runtime and OpenVINO.
        notices: names of the licence files that came with the base.
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

    def tuned(self, report: Report) -> System:
        """Return this model's entry in a report."""
        system = tuned_system(report, self.prepared.measured)
        assert system is not None, "gate.check_evidence comes first"
        return system

    def compared(self, found: Evidence, measure: str) -> Comparison | None:
        """Return this model's difference from the baseline of a report, or from its first stage."""
        name = self.tuned(found.report).name
        return compared(found, name, measure, from_first_stage=self.ruling.from_first_stage)

    def comparisons(self, found: Evidence) -> list[Comparison]:
        """Return the differences on all measures of a report."""
        return [c for measure in found.report.measures if (c := self.compared(found, measure)) is not None]

    def further_verdicts(self) -> list[tuple[str, str]]:
        """Return the verdict of each further report on the first measure: a dev gain must not stand alone."""
        verdicts = []
        for place, found in list(self.places.items())[1:]:
            measures = found.report.measures
            measure = self.source.evidence[0].report.measures[0]
            comparison = self.compared(found, measure if measure in measures else measures[0])
            if comparison is not None:
                verdicts.append((f"{self.names[place]} ({found.split})", _verdict(comparison, found.report)))
        return verdicts

    def system_row(self, system: System, measures: Sequence[str]) -> list[str]:
        """Return a system's name and its values on these measures."""
        results = system.results
        values = [format_estimate(results[m]) if m in results else "not measured" for m in measures]
        return [span(system.name), *values]

    def is_guard(self, found: Evidence) -> bool:
        """Return True for data that the run neither trained nor chose on."""
        return bool(self.source.manifest) and found.name not in _data_names(self.source)


def render_card(settings: PublishCommand, content: Content, reranker: Reranker) -> str:
    """Return README.md of the published folder.

    Args:
        settings: name, data sets and repository that the user gave.
        content: what is known.
        reranker: the published model.
    """
    source, folder = content.source, Path(settings.output).resolve().name
    title = settings.card.name or folder
    report = source.evidence[0].report
    model_type = reranker.model.config.model_type
    values = {
        "title": title,
        "metadata": metadata_yaml(settings.card, source, content.prepared.measured, title, model_type),
        "train": (source.manifest.get("data") or {}).get("train") or {},
        "verdict": verdict_words(content.ruling, report),
        "baseline_words": _other_systems(report, content.tuned(report)),
        "repo": settings.push.repo,
        "revision": settings.push.revision if settings.push.repo else None,
        "model": settings.push.repo or folder,
        "pairs": reranker.pairs,
        "default": ModelSettings(),
        "equal_query": equally_cut_query(reranker),
        "prompts": reranker.prompts,
        "example": example_pairs(reranker.prompts),
        "mixtures": mixture_rows(content.merged) if content.merged else [],
        "training_facts": training_facts(source),
        "training": training_rows(source, merged=content.merged is not None and content.merged.changed),
        "data_sets": list(settings.card.datasets) or _data_names(source),
        "constants": {"curve": CURVE, "opset": OPSET, "batch": BATCH, "version": __version__},
    }
    functions = {"data_names": data_names, "notes_words": notes_words}
    return _environment().get_template(TEMPLATE).render(vars(content), content=content, **values, **functions)


def verdict_words(ruling: Ruling, report: Report) -> str:
    """Return the verdict of the first report as a sentence."""
    if ruling.comparison is None:
        return f"Not compared with anything: {ruling.reason}"
    return _verdict(ruling.comparison, report)


def notes_words(report: Report, tuned: System, *, calibrated: bool) -> str:
    """Return the audits of the data and of the model as sentences.

    Audits of the scale of the scores are about the measured ones; for a calibrated model they say so.
    """
    told = [note for note in notes(report) if note.system in ("", tuned.name)]
    told.sort(key=lambda note: list(LEVELS).index(note.level))
    words = " ".join(f"**{LEVELS[note.level]}:** {note.text}" if note.loud else note.text for note in told)
    for audit in tuned.audits:
        if calibrated and audit.name in SCALED:
            old = f"{tuned.name}: {audit.text}."
            words = words.replace(old, f"{tuned.name}, before calibration: {audit.text}.")
    return words


def _environment() -> Environment:
    # Markdown, not HTML: nothing is escaped. A name that is missing is our mistake.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "candidates": candidates_words,
        "code": code,
        "difference": format_difference,
        "inline": inline,
        "mixture": mixture_words,
        "named": named,
        "p": format_p,
        "plain": plain,
        "span": span,
    }
    return environment


def _verdict(comparison: Comparison, report: Report) -> str:
    mean = report.system(comparison.baseline).results[comparison.measure].mean
    return verdict(comparison, baseline_mean=mean)


def _other_systems(report: Report, tuned: System) -> str:
    meanings = {report.baseline: "the baseline", "base": "the model before tuning"}
    meanings |= {
        system.name: "the first stage whose candidates it reranks"
        for system in report.systems
        if system.kind == "first_stage"
    }
    others = [system.name for system in report.systems if system.name in meanings and system is not tuned]
    return ", ".join(f"{span(name)} {meanings[name]}" for name in others)


def _data_names(source: Source) -> list[str]:
    """Return the names of the data that the run trained and chose on; without a run, of what was measured."""
    dev = (source.manifest.get("data") or {}).get("dev") or {}
    used = [*source.train_names, *(data_names(dev["path"]) if dev.get("path") else [])]
    return list(dict.fromkeys(used or [found.name for found in source.evidence]))
