"""The way from settings to a published folder, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from .. import __version__
from ..configs.schema import PublishCommand
from . import card, folder, gate, hub, probes, verify
from .record import make_record
from .sources import read_source


@dataclass(frozen=True)
class Published:
    """What came out.

    Attributes:
        folder: the published folder.
        verdict: what the first report says, in a sentence.
        forced: why the model would have been refused; empty if it would not.
        proofs: the scores of the other libraries.
        url: address on the hub; empty if it was not pushed.
    """

    folder: Path
    verdict: str
    forced: str
    proofs: tuple[verify.Proof, ...]
    url: str = ""


def publish(settings: PublishCommand) -> Published:
    """Check, write, prove and describe a model; push it if asked.

    Nothing is left behind, and nothing is pushed, unless every step before succeeded.

    Raises:
        UserError: whatever forbids publishing, with what to do.
    """
    source = read_source(settings)
    hub.check_push(settings.push, source.licence)
    reranker = gate.load_undamaged(source)
    weights = reranker.weights_hash()
    gate.check_evidence(source, weights, reranker.budgets)
    ruling = gate.judge(source, weights)
    gate.require_better(ruling, force=settings.force)
    output = Path(settings.output)
    with folder.building(output) as making:
        folder.write_model(reranker, making)
        places = folder.copy_evidence(source.evidence, source.page, making)
        proofs = verify.prove(making, reranker, [*probes.own_pairs(source.evidence), *probes.DIFFICULT])
        record = make_record(source, reranker, weights, ruling, proofs, list(places), version=__version__)
        folder.write_json(making / "uprank.json", record)
        text = card.render(settings, source, reranker, weights, ruling, proofs, places)
        (making / "README.md").write_text(text, encoding="utf-8")
    published = Published(
        output, card.verdict_words(ruling, source.evidence[0].report), ruling.reason, tuple(proofs)
    )
    if settings.push.repo is None:
        return published
    return replace(published, url=hub.upload(output, settings.push))


def summary(published: Published) -> list[str]:
    """Lines for the terminal."""
    lines = [published.verdict]
    if published.forced:
        lines.append(f"Published by force: {published.forced}")
    lines += [verify.describe(proof) for proof in published.proofs]
    lines.append(f"Published: {published.folder}")
    return lines + ([f"Pushed: {published.url}"] if published.url else [])
