"""Read a run folder, or a model folder with its report, into one frozen value; name its data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ...configs.errors import UserError, collect
from ...configs.schema_publish import PublishCommand
from ...configs.validate_publish import setting_problems
from ...data.origin import data_name, find_origin
from ...eval.results import Report
from .licence import Base, Licence, find_data_licence, find_languages, find_licence
from .links import refuse_links

RUN_FILES = ("manifest.json", "config.yaml", "report.html", "best", "eval")  # what publishing reads of a run
REPORT_FILES = ("report.json", "per_query.jsonl", "report.html", "runs")


@dataclass(frozen=True)
class Evidence:
    """One evaluation of the model.

    Attributes:
        folder: folder of `report.json`.
        report: the report itself.
        split: `dev`, or `test` for further `reports`; a qrels or JSONL file names its own.
    """

    folder: Path
    report: Report
    split: str

    @property
    def name(self) -> str:
        """Return the name of the judged data: its folder without the path."""
        return data_name(self.report.data)


@dataclass(frozen=True)
class Source:
    """Everything that publishing reads.

    Attributes:
        model: folder in transformers layout.
        evidence: evaluations; the first one decides if the model is published.
        base: the model it was tuned from; all fields empty without a run.
        licence: the licence of the weights; None if unknown.
        languages: language codes, possibly none.
        manifest: `manifest.json` of the run; empty without a run.
        config: resolved settings of the run; empty without a run.
        query_tokens: budget of the query in a pair that is too long; None for the model's own.
        max_tokens: longest pair; None for the model's own.
        page: `report.html` to publish, if there is one.
        run: the run folder; None without a run.
        data_licence: the licence of the training data; None if unknown.
    """

    model: Path
    evidence: tuple[Evidence, ...]
    base: Base
    licence: Licence | None
    languages: tuple[str, ...]
    query_tokens: int | None
    max_tokens: int | None
    manifest: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    page: Path | None = None
    run: Path | None = None
    data_licence: Licence | None = None

    @property
    def train_sources(self) -> list[dict[str, Any]]:
        """Return the manifest's entries of the training data."""
        train: dict[str, Any] = (self.manifest.get("data") or {}).get("train") or {}
        return train.get("sources") or ([train] if train.get("path") else [])

    @property
    def train_origins(self) -> list[dict[str, Any]]:
        """Return where each data set came from, as the run noted it; of older runs, as it can be seen now."""
        return [part.get("origin") or find_origin(part.get("path") or "") for part in self.train_sources]

    @property
    def train_names(self) -> list[str]:
        """Return the names of the training data; for mined and split rows, of what they were made from."""
        return list(dict.fromkeys(name for origin in self.train_origins for name in origin["names"]))


def read_source(settings: PublishCommand) -> Source:
    """Read the run, or the model and its report, and the further reports.

    Raises:
        UserError: all problems found.
    """
    problems = _misused(settings) + setting_problems(settings)
    output = Path(settings.output)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        problems.append(f"output={output}: exists already and is never overwritten; give another folder")
    source = None
    if settings.run is not None:
        source = _read_run(Path(settings.run), settings, problems)
    elif settings.model.path is not None and settings.report is not None:
        source = _read_pair(Path(settings.model.path), settings, problems)
    elsewhere = [_evidence(Path(path), "test", problems) for path in settings.reports]
    if problems or source is None:
        raise UserError(problems)
    more = tuple(found for found in elsewhere if found is not None)
    reports = [found.report for found in (*source.evidence, *more)]
    if any(report in reports[:number] for number, report in enumerate(reports)):
        raise UserError("reports: the same evaluation is named twice", advice="Name each evaluation once.")
    licence = find_data_licence(settings.card.data_license, source.train_origins)
    return replace(source, evidence=source.evidence + more, data_licence=licence)


def data_names(given: Any) -> list[str]:
    """Return the names of the data in a manifest: a path, files by role, or a list of these.

    >>> data_names(["web/scifact", {"triples": "t.tsv", "corpus": "msmarco/collection.tsv"}])
    ['scifact', 'msmarco']
    """
    entries = given if isinstance(given, list) else [given]
    paths = [entry.get("corpus", "") if isinstance(entry, dict) else entry for entry in entries]
    return list(dict.fromkeys(data_name(str(path)) for path in paths))


def _misused(settings: PublishCommand) -> list[str]:
    """Return problems of `run`, `model.path` and `report` together."""
    pair = {"model.path": settings.model.path, "report": settings.report}
    given = [name for name, value in pair.items() if value is not None]
    if settings.run is not None and given:
        return [f"run and {' and '.join(given)} are given; give run=FOLDER, or model.path= and report="]
    if settings.run is None and not given:
        return ["nothing to publish; give run=FOLDER (made by `uprank train`), or model.path= and report="]
    if settings.run is None and len(given) == 1:
        missing = "report" if given == ["model.path"] else "model.path"
        return [
            f"{given[0]} is given without {missing}; a model is published with the evaluation that proves it"
        ]
    return []


def _read_run(run: Path, settings: PublishCommand, problems: list[str]) -> Source | None:
    if not run.is_dir():
        problems.append(f"run={run}: no such folder; allowed is a folder made by `uprank train`")
        return None
    refuse_links(run, *RUN_FILES)
    manifest = _read_manifest(run / "manifest.json", problems)
    config = _read_config(run / "config.yaml", problems)
    if manifest and not manifest.get("finished"):
        again = manifest.get("command") or "the same `uprank train` command"
        problems.append(f"run={run}: the run is not finished; continue it first: {again}")
        return None
    if not (run / "best").is_dir():
        problems.append(f"{run / 'best'}: the run has no best model")
    evidence = _evidence(run / "eval" / "final", "dev", problems)
    if problems or evidence is None:
        return None
    base = Base.from_manifest(manifest.get("base") or {})
    _refuse_linked_base(base)
    budgets = manifest.get("budgets") or {}
    return Source(
        model=run / "best",
        evidence=(evidence,),
        base=base,
        licence=find_licence(settings.card.license, base),
        languages=find_languages(settings.card.language, base),
        query_tokens=budgets.get("query_tokens"),
        max_tokens=budgets.get("max_tokens"),
        manifest=manifest,
        config=config,
        page=_page(evidence.folder, run),
        run=run,
    )


def _refuse_linked_base(base: Base) -> None:
    """Refuse linked texts of a local base: its tokenizer and licence are published. Weights are hashed."""
    place = Path(base.path).expanduser()
    if base.kind == "folder" and place.is_dir():
        texts = [path.name for path in place.iterdir() if path.suffix != ".safetensors"]
        refuse_links(place, *(texts or ["config.json"]))


def _read_pair(model: Path, settings: PublishCommand, problems: list[str]) -> Source | None:
    if not model.is_dir():
        problems.append(f"model.path={model}: no such folder; publishing needs the files of the model")
    else:
        refuse_links(model)
    evidence = _evidence(Path(settings.report or ""), "test", problems)
    if problems or evidence is None:
        return None
    scored = {
        (s.query_tokens, s.max_tokens) for s in evidence.report.systems if s.kind == "model" and s.max_tokens
    }
    # The base may have had others; then those that the model's own config.json states.
    measured = scored.pop() if len(scored) == 1 else (None, None)
    return Source(
        model=model,
        evidence=(evidence,),
        base=Base(),
        licence=find_licence(settings.card.license, Base(path=str(model))),
        languages=find_languages(settings.card.language, Base(path=str(model))),
        query_tokens=settings.model.query_tokens or measured[0],
        max_tokens=settings.model.max_tokens or measured[1],
        page=_page(evidence.folder),
    )


def _evidence(path: Path, split: str, problems: list[str]) -> Evidence | None:
    folder = path if path.is_dir() else path.parent
    try:
        refuse_links(folder, *REPORT_FILES)
        report = Report.load(path)
    except UserError as error:
        problems += [f"{problem}. {error.advice}".strip() for problem in error.problems]
        return None
    if not report.measures or not report.systems:
        problems.append(f"{path}: the report has no measures or no systems")
        return None
    if report.sampled_from and split == "test":
        problems.append(
            f"{path}: measured on a sample of {report.queries:,} of {report.sampled_from:,} judged queries; "
            "evaluate all of them, without max_queries"
        )
        return None
    place = Path(report.data)
    of_file = place.suffix and not place.is_dir()  # a folder may have a dot in its name
    return Evidence(folder, report, place.stem if of_file else split)


def _read_manifest(path: Path, problems: list[str]) -> dict[str, Any]:
    from ...train.run_folder import read_manifest

    if not path.is_file():
        problems.append(f"{path}: missing; a run folder holds it")
        return {}
    return collect(problems, read_manifest, path.parent) or {}


def _read_config(path: Path, problems: list[str]) -> dict[str, Any]:
    values = _read(path, lambda: OmegaConf.to_container(OmegaConf.load(path)), "cannot be read", problems)
    return values if isinstance(values, dict) else {}


def _read(path: Path, load: Callable[[], Any], what: str, problems: list[str]) -> Any:
    if not path.is_file():
        problems.append(f"{path}: missing; a run folder holds it")
        return None
    try:
        return load()
    except (OmegaConfBaseException, YAMLError, ValueError, OSError) as error:
        problems.append(f"{path}: {what} ({' '.join(str(error).split())})")
        return None


def _page(*folders: Path) -> Path | None:
    pages = (folder / "report.html" for folder in folders)
    return next((page for page in pages if page.is_file()), None)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Return the names of data sets; add the file, the folder above or a number to repeated names.

    >>> distinct_names(["en/data/test.jsonl", "zh/data/test.jsonl", "scifact"])
    ['en/data', 'zh/data', 'scifact']
    >>> distinct_names(["law/dev.jsonl", "law/test.jsonl"])
    ['law/dev', 'law/test']
    >>> distinct_names(["law", "law"])
    ['law', 'law 2']
    """
    names = [data_name(path) for path in paths]
    for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        places = [place for place, found in enumerate(names) if found == name]
        forms = [
            [f"{name}/{Path(paths[place]).stem}" for place in places],
            [_with_folder(paths[place], name) for place in places],
        ]
        numbered = [f"{name} {number}" if number > 1 else name for number in range(1, len(places) + 1)]
        chosen = next((form for form in forms if len(set(form)) == len(form)), numbered)
        for place, new in zip(places, chosen, strict=True):
            names[place] = new
    return names


def _with_folder(path: str, name: str) -> str:
    parts = Path(path).parts
    place = len(parts) - 1 - parts[::-1].index(name) if name in parts else 0
    above = parts[place - 1] if place else ""
    return f"{above}/{name}" if above.strip("/.") else name
