"""Groups that are larger than the memory: the same gradient, from parts of a group."""

from contextlib import contextmanager, nullcontext
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from uprank.configs.schema_train import LossSettings, TrainCommand
from uprank.configs.validate_loss import NEEDS
from uprank.data.sampling.draws import draw_step
from uprank.data.sampling.in_batch import in_batch_negatives
from uprank.model.forward.packing import GRAIN, split_batch
from uprank.model.lora import add_adapters
from uprank.model.reranker import Reranker
from uprank.train import backward as backward_file
from uprank.train.backward import backward, make_replicas
from uprank.train.batches import largest_group
from uprank.train.losses.objective import group_losses
from uprank.train.state import Run
from uprank.train.step import Step, make_batches, train_step

SEED = 4
# Of scores this far apart approx_ndcg has hardly a gradient.
LOSSES = [LossSettings(name, temperature=20.0 if name == "approx_ndcg" else 1.0) for name in NEEDS]


@pytest.fixture(scope="module")
def groups(graded_groups):
    """Of 3 to 12 passages: grades 1 to 3, and scores of a teacher."""
    return graded_groups(5, negatives=lambda number: 2 + 2 * number)


def make_run(folder, *, budget, learning_rate=0.1, part=""):
    """Of the whole model, or with `part` of adapters (`lora`) or without the word table (`frozen`)."""
    settings = TrainCommand(seed=SEED)
    settings.train.tokens_per_batch = budget
    reranker = Reranker.load(folder, query_tokens=30)
    if reranker.scorer.packed:
        reranker.set_dropout(attention=0.2, hidden=0.1)
    head = reranker.model.classifier
    with torch.no_grad():  # scores of one another's size, so that ranks do not hang on rounding
        getattr(head, "out_proj", head).weight.mul_(20)
    if part == "lora":
        pytest.importorskip("peft")
        add_adapters(reranker.model, rank=2, alpha=None, targets=["query", "dense"], seed=SEED)
    if part == "frozen":
        reranker.model.get_input_embeddings().weight.requires_grad_(False)
    accelerator = SimpleNamespace(
        process_index=0, num_processes=1, device=torch.device("cpu"),
        no_sync=lambda _: nullcontext(), backward=lambda loss: loss.backward(),
    )  # fmt: skip
    trained = [weight for weight in reranker.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=learning_rate)
    return Run(settings, output=None, accelerator=accelerator, reranker=reranker, scorer=reranker.scorer,
               optimizer=optimizer, mix=None, dev=None, steps=1)  # fmt: skip


def draw(groups, foreign=0):
    draws = draw_step(groups, start=5, count=5, group_size=12, positives=3, seed=SEED)
    return in_batch_negatives(draws, [groups[one.index] for one in draws], per_group=foreign, seed=SEED)


def gradient(run, draws):
    run.reranker.model.zero_grad(set_to_none=True)
    run.scorer.train()
    told = backward(run, make_batches(run, draws), len(draws))
    found = {name: p.grad for name, p in run.reranker.model.named_parameters() if p.grad is not None}
    return found, torch.cat([torch.from_numpy(values) for values in told], dim=1)


def assert_equal(found, expected, rtol=2e-5):
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 1e-4
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, atol=rtol * largest, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def whole(tiny_xlmr):
    return make_run(tiny_xlmr, budget=10**6)


@pytest.mark.parametrize("foreign", [0, 2], ids=["", "in-batch negatives"])
@pytest.mark.parametrize("loss", [*LOSSES, LossSettings(weights={"bce": 0.5, "lambdaloss": 0.2})],
                         ids=[*NEEDS, "sum"])  # fmt: skip
def test_the_gradient_from_parts_is_that_of_the_whole_for_every_loss(loss, foreign, whole, groups):
    if foreign and NEEDS[loss.name].teacher:
        pytest.skip("foreign passages have no score of the teacher")
    whole.settings.loss, draws = loss, draw(groups, foreign)
    whole.settings.train.tokens_per_batch = 10**6
    (batch,) = make_batches(whole, draws)
    expected, told = gradient(whole, draws)
    for budget in (1, 150):
        whole.settings.train.tokens_per_batch = budget
        batches = make_batches(whole, draws)
        assert any(len(split_batch(one.packed, budget)) > 3 for one in batches)
        found, again = gradient(whole, draws)
        assert_equal(found, expected)
        torch.testing.assert_close(again, told, atol=1e-5, rtol=1e-5)  # losses, of equal scores, spreads
    assert batch.packed.tokens > 1000


@pytest.mark.parametrize("kind", ["", "streams", "lora", "frozen", "bert"])
def test_steps_with_parts_end_with_the_weights_of_steps_without(kind, request, groups, monkeypatch):
    folder = request.getfixturevalue("tiny_bert" if kind == "bert" else "tiny_xlmr")
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: 3)
    draws, ends = draw(groups), []
    for budget in (10**6, 100):
        run = make_run(folder, budget=budget, learning_rate=1e-3, part=kind)
        if kind == "streams" and budget == 100:
            run.replicas = make_replicas(run.scorer, run.accelerator)
            assert len(run.replicas) == 2
        start = {name: value.clone() for name, value in run.reranker.model.state_dict().items()}
        for _ in range(2):
            train_step(run, Step(draws, make_batches(run, draws)))
        ends.append({name: value - start[name] for name, value in run.reranker.model.state_dict().items()})
    assert_equal(ends[1], ends[0], rtol=1e-3)


def test_a_model_that_cannot_be_packed_has_the_same_dropout_in_both_passes(tiny_electra, groups):
    """Its dropout hangs on what stands in a batch, so the truth is the plain gradient of these parts."""
    run = make_run(tiny_electra, budget=300)
    draws = draw(groups)
    batches = make_batches(run, draws)
    assert not run.scorer.packed
    assert any(len(split_batch(one.packed, 300)) > 2 for one in batches)
    run.scorer.train()
    for batch in batches:
        parts = split_batch(batch.packed, 300) if batch.packed.tokens > 300 else [batch.packed]
        scores = torch.cat([run.scorer(part) for part in parts])
        losses = group_losses(run.settings.loss, scores, batch.labels, batch.offsets, batch.teacher)
        (losses.sum() / len(draws)).backward()
    expected = {name: p.grad for name, p in run.reranker.model.named_parameters() if p.grad is not None}
    found, _ = gradient(run, draws)
    assert_equal(found, expected)


def test_no_more_tokens_than_the_budget_are_ever_in_a_pass_with_gradients(tiny_xlmr, groups):
    """So the memory does not know how large a group is; every passage has both passes."""
    run = make_run(tiny_xlmr, budget=200)
    draws, real, passes, lasts = draw(groups), run.scorer.forward, [], []

    def forward(batch):
        passes.append((torch.is_grad_enabled(), batch.tokens, len(batch.keys)))
        lasts.append(batch.last)
        return real(batch)

    quiet = 0

    @contextmanager
    def no_sync(_):
        nonlocal quiet
        quiet += 1
        yield

    run.scorer.forward, run.accelerator.no_sync = forward, no_sync
    batches = make_batches(run, draws)
    gradient(run, draws)
    assert max(batch.packed.tokens for batch in batches) > 600
    assert max(tokens for graded, tokens, _ in passes if graded) <= 200
    passages = sum(batch.offsets[-1] for batch in batches)
    assert sum(count for graded, _, count in passes if graded) == passages
    graded = [last for last, (graded, _, _) in zip(lasts, passes, strict=True) if graded]
    assert graded == [False] * (len(graded) - 1) + [True]  # ranks exchange gradients with the last one
    assert quiet == len(graded) - 1
    cut = sum(batch.offsets[-1] for batch in batches if batch.packed.tokens > 200)
    assert sum(count for graded, _, count in passes if not graded) == cut


def test_only_what_is_larger_than_usual_groups_is_cut_unless_the_user_says_what_fits(tiny_xlmr):
    assert largest_group("cpu", None) == 8192 > 8 * 512
    assert largest_group("cuda:1", None) == 32_768
    assert largest_group("cpu", 3000) == largest_group("cuda", 3000) == 3000


def test_it_is_said_once_that_groups_are_cut(tiny_xlmr, groups, monkeypatch):
    said, draws = [], draw(groups)
    monkeypatch.setattr(backward_file.log, "info", lambda text, *values: said.append(text % values))
    gradient(make_run(tiny_xlmr, budget=10**6), draws)
    assert said == []
    run = make_run(tiny_xlmr, budget=200)
    gradient(run, draws)
    gradient(run, draws)
    (line,) = said
    largest = max(batch.packed.tokens for batch in make_batches(run, draws))
    assert line.startswith(f"a group of {largest:,} tokens")
    assert f"train.tokens_per_batch={largest} " in line


def test_a_batch_is_split_in_order_at_the_budget(whole, groups):
    whole.settings.train.tokens_per_batch = 10**6
    (batch,) = make_batches(whole, draw(groups))
    packed = batch.packed
    parts = split_batch(packed, 160)
    assert all(part.tokens <= 160 or len(part.keys) == 1 for part in parts)
    assert all(a.tokens + b.lengths[0] > 160 for a, b in pairwise(parts))
    assert [key for part in parts for key in part.keys] == packed.keys
    for name in ("ids", "types", "positions"):
        pieces = [getattr(part, name) for part in parts]
        assert all(len(piece) % GRAIN == 0 for piece in pieces)
        joined = torch.cat([piece[: part.tokens] for piece, part in zip(pieces, parts, strict=True)])
        assert torch.equal(joined, getattr(packed, name)[: packed.tokens])


@pytest.mark.parametrize("family", ["tiny_xlmr", "tiny_bert", "tiny_electra"])
@pytest.mark.parametrize("part", ["", "lora"])
def test_checkpointing_keeps_little_and_changes_no_gradient(family, part, request, groups):
    draws = draw(groups)
    found, kept = [], []
    for checkpointing in (False, True):
        run = make_run(request.getfixturevalue(family), budget=10**6, part=part)
        if checkpointing:
            run.scorer.checkpoint_layers()
        (batch,) = make_batches(run, draws)
        run.scorer.train()
        sizes = []

        def keep(tensor, sizes=sizes):
            sizes.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run.scorer(batch.packed)
        kept.append(sum(sizes))
        found.append(gradient(run, draws)[0])
    assert_equal(found[1], found[0], rtol=1e-6)
    assert kept[1] < kept[0] / 3
