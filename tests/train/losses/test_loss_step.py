"""Contract 1 for every loss: a step's gradient does not know of token budgets and processes."""

import json
from pathlib import Path

import pytest
import torch
from uprank.configs.schema_train import LossSettings
from uprank.configs.validate_loss import NEEDS
from uprank.data.sampling.draws import draw_step
from uprank.data.sampling.in_batch import in_batch_negatives
from uprank.model.reranker import Reranker
from uprank.train.batches import step_batches
from uprank.train.losses.objective import group_losses
from uprank.train.start.preflight import read_inputs
from uprank.train.start.setup import make_accelerator, make_run
from uprank.train.step import prepare_step

SEED = 4
# Of scores this far apart approx_ndcg has hardly a gradient.
LOSSES = [LossSettings(name, temperature=20.0 if name == "approx_ndcg" else 1.0) for name in NEEDS]
SUM = {"bce": 0.5, "lambdaloss": 0.2, "margin_mse": 0.01}


@pytest.fixture(scope="module")
def reranker(tiny_xlmr):
    reranker = Reranker.load(tiny_xlmr, query_tokens=30)
    reranker.set_dropout(attention=0.2, hidden=0.1)
    reranker.scorer.train()
    with torch.no_grad():  # scores of one another's size, so that ranks do not hang on rounding
        reranker.model.classifier.out_proj.weight.mul_(20)
    return reranker


@pytest.fixture(scope="module")
def groups(graded_groups):
    """Uneven ones: 1 to 3 positives of grades 1 to 3, 1 to 6 negatives, scores of a teacher."""
    return graded_groups(13, negatives=lambda number: 1 + number % 6)


def gradient(reranker, draws, loss, *, budget, processes=1):
    """Gradient and value of the mean loss, as the processes together make them."""
    reranker.model.zero_grad(set_to_none=True)
    total = 0.0
    for process in range(processes):
        batches = step_batches(
            draws, reranker.pairs, seed=SEED, budget=budget, share=(process, processes),
            device=torch.device("cpu"),
        )  # fmt: skip
        for batch in batches:
            scores = reranker.scorer(batch.packed)
            share = group_losses(loss, scores, batch.labels, batch.offsets, batch.teacher).sum() / len(draws)
            (share * batch.counts).backward()
            total += share.item() * batch.counts
    return {name: p.grad for name, p in reranker.model.named_parameters() if p.grad is not None}, total


@pytest.mark.parametrize("foreign", [0, 2], ids=["", "in-batch negatives"])
@pytest.mark.parametrize("loss", [*LOSSES, LossSettings(weights=SUM)],
                         ids=[*NEEDS, "sum"])  # fmt: skip
def test_gradients_are_equal_for_every_budget_and_number_of_processes(loss, foreign, reranker, groups):
    draws = draw_step(groups, start=8, count=9, group_size=6, positives=3, seed=SEED)
    if foreign:
        if any(NEEDS[name].teacher for name in loss.weights or [loss.name]):
            pytest.skip("foreign passages have no score of the teacher")
        own = [len(draw.negatives) for draw in draws]
        draws = in_batch_negatives(draws, [groups[d.index] for d in draws], per_group=foreign, seed=SEED)
        assert [len(draw.negatives) - 2 for draw in draws] == own
    expected, value = gradient(reranker, draws, loss, budget=10**6)
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert largest > 1e-4
    for budget, processes in [(1, 1), (700, 2), (10**6, 3)]:
        found, again = gradient(reranker, draws, loss, budget=budget, processes=processes)
        assert again == pytest.approx(value, rel=1e-5)
        assert found.keys() == expected.keys()
        for name, wanted in expected.items():
            torch.testing.assert_close(found[name], wanted, atol=2e-5 * largest, rtol=1e-4, msg=name)


def test_a_positive_of_another_row_of_its_query_is_no_in_batch_negative(settings, tiny_xlmr, jsonl, tmp_path):
    rows = [json.loads(line) for line in Path(jsonl[0]).read_text(encoding="utf-8").splitlines()]
    rows.append({**rows[0], "pos": rows[1]["pos"]})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    asked = settings(tiny_xlmr, (file, jsonl[1]), tmp_path / "run", train__in_batch_negatives=30)
    run = make_run(asked, make_accelerator(asked), read_inputs(asked))
    steps = [prepare_step(run, number) for number in range(6)]
    seen = [draw for step in steps for draw in step.draws if draw.query == rows[0]["query"]]
    assert seen
    assert not any(set(rows[1]["pos"]) & set(draw.negatives) for draw in seen)
