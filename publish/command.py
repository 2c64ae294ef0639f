"""`uprank publish`, step by step: from settings to a published folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .. import __version__
from ..configs.schema_publish import PublishCommand
from ..data.prompts import choose_prompts
from .card import CURVE, Content, calibration_line, find_samples, find_statistics, render_card, verdict_words
from .evidence import check_evidence, copy_notices, judge, load_undamaged, read_source, require_better
from .folder import (
    Paths,
    building,
    copy_evidence,
    file_hashes,
    make_record,
    write_head,
    write_json,
    write_model,
)
from .hub import check_push, push_folder
from .merging import Merged, describe_mixture, merge_weights, merging_curve
from .onnx import NO_GRAPHS, Graphs, add_graphs
from .parity import RECORDED, Proof, describe_proof, own_pairs, prove, recorded
from .weights import Prepared, prepare_weights


@dataclass(frozen=True)
class Published:
    """The result of publishing.

    Attributes:
        folder: the published folder.
        verdict: the first report's verdict in a sentence.
        forced: why the model would have been refused without force; empty if it would not.
        proofs: comparisons with other libraries.
        prepared: the way from the measured to the published weights.
        merged: the mixtures that were tried; None without merging.
        graphs: the ONNX and OpenVINO graphs.
        url: address on the hub; empty if it was not pushed.
    """

    folder: Path
    verdict: str
    forced: str
    proofs: tuple[Proof, ...]
    prepared: Prepared
    merged: Merged | None = None
    graphs: Graphs = NO_GRAPHS
    url: str = ""


def publish(settings: PublishCommand) -> Published:
    """Check, merge, calibrate, write, prove and describe a model; push it if wanted.

    If a step fails, nothing is left behind and nothing is pushed.

    Raises:
        UserError: why the model cannot be published, and what to do.
    """
    source = read_source(settings)
    check_push(settings.push, source)
    reranker = load_undamaged(source)
    stated, given = reranker.prompts.stated(), settings.model
    reranker.prompts = choose_prompts(given.query_prompt, given.passage_prompt, stated)
    merged, output = None, Path(settings.output)
    with TemporaryDirectory(prefix="uprank-") as scratch:
        if settings.merge.weights or settings.merge.average:
            source, merged = merge_weights(settings, source, reranker, Path(scratch))
        measured = reranker.weights_hash()
        check_evidence(source, measured, reranker.budgets, reranker.prompts)
        ruling = judge(source, measured)
        require_better(ruling, force=settings.force)
        pairs = [*own_pairs(source.evidence), *RECORDED]
        prepared = prepare_weights(settings, source, reranker, measured, pairs)
        with building(output) as making:
            write_model(reranker, making, prepared.kind)
            reports = [asdict(replace(entry.report, per_query={})) for entry in source.evidence]
            paths = Paths(source.manifest, source.config, reports)
            places = copy_evidence(source.evidence, source.page, making, paths, pages=settings.card.samples)
            write_head(prepared.head, making)
            texts = copy_notices(source.base, source.model, making)
            if merged:
                picture = merging_curve(merged, source.evidence[0].name)
                (making / CURVE).write_text(picture, encoding="utf-8")
            proofs = prove(making, reranker, pairs, tolerance=prepared.tolerance)
            report = source.evidence[0].report
            graphs = add_graphs(settings.onnx, reranker, making, pairs, prepared.dev, report)
            content = Content(
                source=source,
                prepared=prepared,
                ruling=ruling,
                proofs=proofs,
                places=places,
                merged=merged,
                statistics=find_statistics(prepared, reranker),
                samples=find_samples(prepared, ruling.system) if settings.card.samples else [],
                graphs=graphs,
                notices=texts,
            )
            record = paths.without(make_record(content, reranker, version=__version__))
            card = paths.without(render_card(settings, content, reranker))
            (making / "README.md").write_text(card, encoding="utf-8")
            record["probes"] = recorded(reranker.score(RECORDED))
            record["files"] = file_hashes(making)
            write_json(making / "uprank.json", record)
    verdict = verdict_words(ruling, source.evidence[0].report)
    published = Published(output, verdict, ruling.reason, tuple(proofs), prepared, merged, graphs)
    if settings.push.repo is None:
        return published
    return replace(published, url=push_folder(output, settings.push))


def publish_summary(published: Published) -> list[str]:
    """Return the lines for the terminal."""
    lines = [published.verdict]
    if published.forced:
        lines.append(f"Published by force: {published.forced}")
    if published.merged:
        guards = [str(guard["name"]) for guard in published.merged.guards]
        lines += [describe_mixture(point, guards) for point in published.merged.points]
    lines.append(calibration_line(published.prepared.calibrated))
    lines += [published.prepared.unread] if published.prepared.unread else []
    lines += [describe_proof(proof) for proof in published.proofs]
    lines += published.graphs.lines
    lines.append(f"Published: {published.folder}")
    return lines + ([f"Pushed: {published.url}"] if published.url else [])
