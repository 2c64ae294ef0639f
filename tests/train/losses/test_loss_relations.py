"""What the losses are to each other and to what others compute."""

import doctest
import math

import pytest
import torch
from torch.nn import functional
from uprank.train.losses import losses as loss
from uprank.train.losses import objective
from uprank.train.losses import padded as ragged
from uprank.train.losses.losses import LOSSES, lambdaloss, listwise


@pytest.mark.parametrize("name", ["listwise", "softmax", "listmle", "p_listmle"])
def test_one_positive_is_the_cross_entropy_over_the_group(name):
    scores = torch.randn(4, 8)
    labels = functional.one_hot(torch.tensor([0, 3, 7, 2]), 8).float()
    losses = LOSSES[name](scores.flatten(), labels.flatten(), [0, 8, 16, 24, 32])
    expected = functional.cross_entropy(scores, labels.argmax(1), reduction="none")
    torch.testing.assert_close(losses, expected)


def test_listwise_is_bit_for_bit_what_it_was_before_the_other_losses():
    """The value of the first release on fixed scores; new training runs must repeat old ones."""
    scores = torch.tensor([0.3, -1.7, 2.25, 0.1, 0.0, 5.5, -3.125, 1.0])
    marks = torch.tensor([1.0, 0, 0, 0, 2, 1, 0, 0])
    against = torch.stack([scores[1:4].logsumexp(0), scores[6:].logsumexp(0)])
    first = functional.softplus(against[0] - scores[0])
    second = functional.softplus(against[1] - scores[4]), functional.softplus(against[1] - scores[5])
    losses = listwise(scores, marks, [0, 4, 8])
    assert torch.equal(losses, torch.stack([first, (second[0] + second[1]) / 2]))


def test_listmle_of_different_grades_is_the_formula_of_its_paper():
    scores, grades = [0.5, -1.0, 2.0, 0.25], [1, 3, 0, 2]
    ranked = [s for _, s in sorted(zip(grades, scores, strict=True), reverse=True)]
    terms = [math.log(sum(math.exp(x) for x in ranked[i:])) - ranked[i] for i in range(4)]
    given = torch.tensor(scores), torch.tensor(grades).float(), [0, 4]
    plain, aware = LOSSES["listmle"](*given).item(), LOSSES["p_listmle"](*given).item()
    assert plain == pytest.approx(sum(terms) / 3)  # the last term is log 1
    assert aware == pytest.approx((7 * terms[0] + 3 * terms[1] + terms[2]) / 11)


@pytest.mark.parametrize("module", [loss, ragged, objective], ids=lambda module: module.__name__)
def test_examples_in_the_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


class Scored(torch.nn.Module):
    """A model for sentence-transformers' losses whose scores are given."""

    num_labels = 1

    def __init__(self, scores):
        super().__init__()
        self.scores = scores

    def preprocess(self, pairs, **_):
        return {}

    def forward(self, _):
        return {"scores": self.scores[:, None], "logits": self.scores[:, None]}

    @property
    def device(self):
        return self.scores.device


SCORES = [0.5, -1.0, 2.0, 0.25, 0.75, -0.5]
GRADES = [1.0, 3.0, 0.0, 2.0, 0.0, 1.0]


@pytest.mark.slow
@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("weighting", ["ndcg_loss2", "lambdarank", "ndcg_loss2++"])
def test_lambdaloss_is_that_of_sentence_transformers(weighting, k):
    """Which divides the sum by the number of pairs."""
    peers = pytest.importorskip("sentence_transformers.cross_encoder.losses")
    names = {"ndcg_loss2": "NDCGLoss2Scheme", "lambdarank": "LambdaRankScheme"}
    scheme = getattr(peers, names.get(weighting, "NDCGLoss2PPScheme"))()
    scores, labels = torch.tensor(SCORES), torch.tensor(GRADES)
    theirs = peers.LambdaLoss(Scored(scores), weighting_scheme=scheme, k=k, mini_batch_size=-1)
    found = theirs([["q"], [["d"] * 6]], [labels]).item()
    first = (scores.argsort(descending=True).argsort() < (k or 6)).tolist()
    pairs = sum(GRADES[i] > GRADES[j] and (first[i] or first[j]) for i in range(6) for j in range(6))
    ours = lambdaloss(scores, labels, [0, 6], weighting=weighting, k=k).item()
    assert ours / pairs == pytest.approx(found, rel=1e-5)
