"""Contract 1: the gradient of a step does not depend on token budget or number of processes."""

import random
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from uprank.configs.errors import UserError
from uprank.configs.schema_train import OptimSettings, TrainCommand
from uprank.data.groups import Group
from uprank.data.sampling.draws import draw_step
from uprank.data.sampling.mix import DataSource, Mix
from uprank.model.reranker import Reranker
from uprank.train.backward import make_replicas
from uprank.train.batches import step_batches
from uprank.train.losses.objective import group_losses
from uprank.train.optim.optimizer import make_optimizer, set_rate
from uprank.train.state import Run
from uprank.train.step import Step, make_batches, prepare_step, train_step

SEED = 3


class OneProcess:
    """What the loop asks of accelerate, for one process of `num_processes`."""

    def __init__(self, process_index=0, num_processes=1):
        self.process_index, self.num_processes = process_index, num_processes
        self.device, self.is_main_process = torch.device("cpu"), process_index == 0

    def no_sync(self, _):
        return nullcontext()

    def backward(self, loss):
        loss.backward()


@pytest.fixture(scope="module")
def groups():
    generator = random.Random(8)
    words = ["rank", "query", "passage", "river", "stone", "light", "heart", "blood", "drug"]

    def text(most):
        return " ".join(generator.choices(words, k=generator.randrange(1, most)))

    return [
        Group(
            text(6),
            tuple(f"{text(20)} {i}" for i in range(1 + number % 3)),
            tuple(f"{text(40)} n{i}" for i in range(1 + number % 6)),
            f"row:{number}",
        )
        for number in range(13)
    ]


def gradient(folder, groups, *, budget, processes=1, dropout=True):
    """Gradient of one step of 9 queries, as the processes together make it."""
    reranker = Reranker.load(folder, query_tokens=30)
    reranker.set_dropout(attention=0.2 if dropout else 0.0, hidden=0.1 if dropout else 0.0)
    draws = draw_step(groups, start=8, count=9, group_size=5, positives=2, seed=SEED)
    settings = TrainCommand(seed=SEED)
    reranker.scorer.train()
    for process in range(processes):
        accelerator = OneProcess(process, processes)
        batches = step_batches(
            draws,
            reranker.pairs,
            seed=SEED,
            budget=budget,
            share=(process, processes),
            device=accelerator.device,
        )
        for batch in batches:
            scores = reranker.scorer(batch.packed)
            losses = group_losses(settings.loss, scores, batch.labels, batch.offsets, batch.teacher)
            (losses.sum() / len(draws) * batch.counts).backward()
    return {name: p.grad for name, p in reranker.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", ["tiny_xlmr", "tiny_bert"])
@pytest.mark.parametrize(
    ("budget", "processes"), [(1, 1), (300, 1), (700, 2), (10**6, 3), (1, 5), (10**6, 12)]
)
def test_gradients_are_equal_for_every_budget_and_number_of_processes(
    family, budget, processes, request, groups
):
    folder = request.getfixturevalue(family)
    expected = gradient(folder, groups, budget=10**6)
    found = gradient(folder, groups, budget=budget, processes=processes)
    assert expected.keys() == found.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 1e-2
    for name, value in expected.items():  # how sums are rounded depends on the CPU
        torch.testing.assert_close(found[name], value, atol=5e-6 * largest, rtol=1e-4, msg=name)


def test_without_dropout_the_gradient_is_that_of_transformers_forward(tiny_xlmr, groups):
    found = gradient(tiny_xlmr, groups, budget=400, dropout=False)
    reranker = Reranker.load(tiny_xlmr, query_tokens=30)
    draws = draw_step(groups, start=8, count=9, group_size=5, positives=2, seed=SEED)
    model, tokenizer, losses = reranker.model.eval(), reranker.tokenizer, []
    for draw in draws:
        passages = [*draw.positives, *draw.negatives]
        inputs = tokenizer([draw.query] * len(passages), passages, padding=True, return_tensors="pt")
        scores = model(**inputs).logits[:, 0]
        positive, negative = scores[: len(draw.positives)], scores[len(draw.positives) :]
        losses += [torch.stack([torch.cat([p[None], negative]).logsumexp(0) - p for p in positive]).mean()]
    torch.stack(losses).mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def make_run(folder, groups, learning_rate=1e-3):
    reranker = Reranker.load(folder, query_tokens=30)
    settings = TrainCommand(seed=SEED)
    settings.model.precision = "fp32"
    optimizer = torch.optim.SGD(reranker.model.parameters(), lr=learning_rate)
    steps = {"steps": 3, "dev": None, "output": None}
    mix = Mix([DataSource("rows", groups, "")], [len(groups)], seed=SEED)
    return Run(settings, accelerator=OneProcess(), reranker=reranker, scorer=reranker.scorer,
               optimizer=optimizer, mix=mix, **steps)  # fmt: skip


def test_a_step_carries_grades_and_the_scores_of_a_teacher(tiny_xlmr, groups):
    def taught(number, group):
        grades = tuple(range(1, len(group.positives) + 1))
        scores = tuple(float(100 * number + k) for k in range(len(group.texts) - 1))
        return replace(group, grades=grades, scores=scores)

    graded = [taught(number, group) for number, group in enumerate(groups)]
    run = make_run(tiny_xlmr, graded)
    run.settings.train.queries_per_step = 9
    run.settings.train.positives_per_group = 2
    run.settings.train.tokens_per_batch = 400
    by_query = {group.query: group for group in graded}
    step = prepare_step(run, 0)
    told = [label for batch in step.batches for label in batch.labels.tolist()]
    scores = [score for batch in step.batches for score in batch.teacher.tolist()]
    assert len(step.batches) > 1
    assert sorted(told) == sorted(
        grade for draw in step.draws for grade in (*draw.grades, *[0] * len(draw.negatives))
    )
    assert sorted(scores) == sorted(score for draw in step.draws for score in draw.scores)
    for draw in step.draws:  # against the rows themselves
        group = by_query[draw.query]
        places = [group.texts.index(text) - 1 for text in (*draw.positives, *draw.negatives)]
        assert draw.grades == tuple(group.grades[place] for place in places[: len(draw.positives)])
        assert draw.scores == tuple(group.scores[place] for place in places)
    graded[step.draws[0].index] = replace(graded[step.draws[0].index], scores=())
    run = make_run(tiny_xlmr, graded)
    run.settings.train.queries_per_step = 9
    (batch,) = prepare_step(run, 0).batches
    assert batch.teacher is None


def test_a_loss_that_is_not_finite_is_refused_before_the_step(tiny_xlmr, groups):
    run = make_run(tiny_xlmr, groups)
    with torch.no_grad():
        run.reranker.model.classifier.out_proj.weight.fill_(float("nan"))
    before = {name: p.clone() for name, p in run.reranker.model.named_parameters()}
    draws = draw_step(groups, start=0, count=4, group_size=4, positives=1, seed=0)
    with pytest.raises(UserError, match="not finite; the step was not taken") as caught:
        train_step(run, Step(draws, make_batches(run, draws)))
    assert groups[draws[0].index].where in str(caught.value)
    for name, parameter in run.reranker.model.named_parameters():
        assert torch.equal(parameter.nan_to_num(), before[name].nan_to_num())


@pytest.mark.parametrize("budget", [1, 90])
def test_the_groups_whose_loss_is_not_finite_are_named(budget, tiny_xlmr, groups, monkeypatch):
    run = make_run(tiny_xlmr, groups)
    run.settings.train.tokens_per_batch = budget  # every group is a batch, or most are computed in parts
    draws = draw_step(groups, start=0, count=5, group_size=4, positives=1, seed=0)
    step = Step(draws, make_batches(run, draws))
    wrong = step.batches[3].packed
    real = run.scorer.forward

    def forward(batch):
        return real(batch) * (float("nan") if {*batch.keys} <= {*wrong.keys} else 1.0)

    run.scorer.forward = forward
    with pytest.raises(UserError) as caught:
        train_step(run, step)
    (place,) = step.batches[3].places
    assert f"Groups without a finite loss: {draws[place].where}" in caught.value.problems[0]
    assert all(draw.where not in str(caught.value) for draw in draws if draw.where != draws[place].where)


def test_a_step_tells_the_loss_of_equal_scores_and_the_spread(tiny_xlmr, groups):
    run = make_run(tiny_xlmr, groups)
    run.reranker.set_dropout(attention=0.0, hidden=0.0)
    draws = draw_step(groups, start=0, count=6, group_size=4, positives=1, seed=0)
    scores = [
        run.reranker.score([(draw.query, text) for text in (*draw.positives, *draw.negatives)])
        for draw in draws
    ]
    outcome = train_step(run, Step(draws, make_batches(run, draws)), stop=lambda: 15)
    assert outcome.score_spread == pytest.approx(np.mean([np.std(row) for row in scores]), abs=1e-5)
    sizes = [1 + len(draw.negatives) for draw in draws]
    assert outcome.loss_of_equal_scores == pytest.approx(np.mean(np.log(sizes)), abs=1e-6)
    assert outcome.stop == 15


def test_the_step_lowers_the_loss_of_its_groups(tiny_xlmr, groups):
    run = make_run(tiny_xlmr, groups, learning_rate=5e-3)
    run.reranker.set_dropout(attention=0.0, hidden=0.0)
    draws = draw_step(groups, start=0, count=8, group_size=4, positives=1, seed=0)
    step = Step(draws, make_batches(run, draws))
    losses = [train_step(run, step).loss for _ in range(12)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("family", ["tiny_xlmr", "tiny_bert"])
def test_streams_side_by_side_learn_what_one_learns_and_the_same_each_time(
    family, request, groups, monkeypatch
):
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: 3)

    def step_taken(streams):
        run = make_run(request.getfixturevalue(family), groups)
        run.settings.train.tokens_per_batch = 1  # every group is a batch
        run.reranker.set_dropout(attention=0.2, hidden=0.1)
        draws = draw_step(groups, start=0, count=9, group_size=5, positives=1, seed=0)
        step = Step(draws, make_batches(run, draws))
        if streams:
            run.replicas = make_replicas(run.scorer, run.accelerator)
            assert len(run.replicas) == 2
        told = [train_step(run, step) for _ in range(3)]  # the later ones see the weights of the earlier
        return told, {name: p.detach().clone() for name, p in run.reranker.model.named_parameters()}

    (one, expected), (several, found), (again, same) = step_taken(False), step_taken(True), step_taken(True)
    start = Reranker.load(request.getfixturevalue(family)).model.state_dict()
    assert max((expected[name] - start[name]).abs().max() for name in expected) > 1e-4
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5, msg=name)
        assert torch.equal(found[name], same[name]), name
    assert several == again
    assert [told.loss for told in several] == pytest.approx([told.loss for told in one], abs=1e-5)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "not fused"])
def test_bf16_learns_nearly_the_same_and_from_the_weights_of_now(
    fused, streams, tiny_xlmr, groups, monkeypatch
):
    """With the optimizer of training, whose kernel has to tell that it wrote the weights."""
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: streams)
    if not fused:  # as on a GPU, where scoring and training have their copies in common
        monkeypatch.setattr("uprank.model.forward.scorer.can_fuse", lambda *_: False)
    told = []
    for precision in ("fp32", "bf16"):
        run = make_run(tiny_xlmr, groups)
        run.settings.train.tokens_per_batch = 1
        run.reranker = Reranker.load(tiny_xlmr, query_tokens=30, precision=precision)
        run.reranker.set_dropout(attention=0.0, hidden=0.0)
        run.scorer = run.reranker.scorer
        settings = OptimSettings(learning_rate=2e-3)
        run.optimizer = make_optimizer(run.reranker.model, settings, new_head=False)
        set_rate(run.optimizer, 1.0)
        run.replicas = make_replicas(run.scorer, run.accelerator)
        draws = draw_step(groups, start=0, count=8, group_size=4, positives=1, seed=0)
        step = Step(draws, make_batches(run, draws))
        losses = []
        for _ in range(4):
            run.reranker.score([(groups[0].query, groups[0].positives[0])])
            losses.append(train_step(run, step).loss)
        told.append(losses)
    assert told[1] == pytest.approx(told[0], abs=0.08)  # stale copies were 0.4 away
    assert told[1] != told[0]
    assert told[0][-1] < told[0][0] * 0.8  # stale copies of the weights would stay at the first loss


def test_layers_too_large_for_a_cache_have_no_replicas(tiny_xlmr, groups, monkeypatch):
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: 3)
    run = make_run(tiny_xlmr, groups)
    assert len(make_replicas(run.scorer, run.accelerator)) == 2
    wrapped = torch.nn.Sequential(run.scorer)  # as DistributedDataParallel does, even for one process
    assert make_replicas(wrapped, run.accelerator) == []
    monkeypatch.setattr("uprank.train.backward.LARGEST_REPLICA", 1000)
    assert make_replicas(run.scorer, run.accelerator) == []


def test_frozen_layers_and_a_frozen_word_table_stay_as_they_are(tiny_xlmr, groups, monkeypatch):
    monkeypatch.setattr("uprank.train.backward.count_streams", lambda _: 2)
    run = make_run(tiny_xlmr, groups)
    run.settings.train.tokens_per_batch = 1
    frozen = [run.reranker.model.get_input_embeddings().weight]
    frozen += list(run.reranker.model.roberta.encoder.layer[0].parameters())
    for weight in frozen:
        weight.requires_grad_(False)
    run.optimizer = torch.optim.SGD([w for w in run.reranker.model.parameters() if w.requires_grad], lr=0.1)
    run.replicas = make_replicas(run.scorer, run.accelerator)
    draws = draw_step(groups, start=0, count=6, group_size=4, positives=1, seed=0)
    train_step(run, Step(draws, make_batches(run, draws)))
    assert all(weight.grad is None for weight in frozen)
