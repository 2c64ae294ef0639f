"""The losses: scores, labels and offsets of ragged groups in, one number a group out.

| input | shape | meaning |
|---|---|---|
| scores | (N,) float | s: scores of all passages, group after group, over `loss.temperature` |
| labels | (N,) float | y: grade of a positive (> 0), 0 for a negative; a group has at least one of each |
| offsets | G + 1 ints | group g is `offsets[g]:offsets[g + 1]` |
| teacher | (N,) float | t: a teacher's scores, for `margin_mse` and `kl` |

Each returns shape (G,), in the precision of the scores. A group's number depends on that group alone, so it
is the same in every batch (contract 1); the caller divides by the number of groups of the step. The order of
the passages does not matter, and ties are shared evenly. The table `configs.validate_loss.NEEDS` lists the
inputs of each loss; `objective.py` calls the losses that the settings name.

With a single positive, `listwise`, `softmax`, `listmle` and `p_listmle` are equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from .padded import better, choices, gains, log_softmax, mean, minus, pad, ranks

Offsets = Sequence[int]


def listwise(scores: Tensor, labels: Tensor, offsets: Offsets, *, label_smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy of each positive against the negatives of its group.

    For a positive p and the negatives N: -log(e^s_p / (e^s_p + sum of e^s_n over N)), averaged over the
    positives. Two positives do not compete (`softmax` lets them). With one positive it is InfoNCE with hard
    negatives (van den Oord et al. 2018, arXiv:1807.03748; for rerankers Gao et al. 2021, arXiv:2101.08751).
    Label smoothing e moves the share e of the target evenly onto p and N (Szegedy et al. 2016,
    arXiv:1512.00567).

    | labels | teacher |
    |---|---|
    | > 0 positive, 0 negative; grades count alike | – |

    >>> listwise(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]), [0, 2]).item()  # log 2
    0.6931471824645996
    """
    positive = labels > 0
    spans = list(pairwise(offsets))
    negatives = [scores[start:stop][~positive[start:stop]] for start, stop in spans]
    # log of the sum over each group's negatives; -inf padding adds nothing to it.
    against = pad_sequence(negatives, batch_first=True, padding_value=-float("inf")).logsumexp(dim=1)  # (G,)
    sizes = torch.tensor([stop - start for start, stop in spans], device=scores.device)
    group = torch.repeat_interleave(sizes)[positive]
    chosen = scores[positive]
    terms = functional.softplus(against[group] - chosen)  # one a positive
    if label_smoothing:
        count = torch.tensor([len(row) for row in negatives], device=scores.device)
        total = torch.stack([row.sum() for row in negatives])
        terms = terms + label_smoothing * (chosen - (chosen + total[group]) / (1 + count[group]))
    count = torch.bincount(group, minlength=len(spans))
    return torch.zeros_like(against).index_add(0, group, terms) / count


def softmax(scores: Tensor, labels: Tensor, offsets: Offsets, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy between the grades and the softmax over the whole group: several positives, one target.

    -sum of q_i log softmax(s)_i with q_i = y_i / sum of y (Bruch et al. 2019, doi:10.1145/3341981.3344221;
    ListNet, Cao et al. 2007, doi:10.1145/1273496.1273513, takes q = softmax(y), which gives mass to
    negatives). Positives share the probability in proportion to their grades, so the minimum of the loss is
    the entropy of q and not 0. Label smoothing e moves the share e of q evenly onto the group.

    | labels | teacher |
    |---|---|
    | grades: shares of the target | – (`kl` has the target from a teacher) |

    >>> softmax(torch.zeros(3), torch.tensor([1.0, 1.0, 0.0]), [0, 3]).item()  # log 3
    1.0986123085021973
    """
    grades = pad(labels, offsets, -1)
    real, known = (grades >= 0).to(scores), grades.clamp(min=0)
    target = (1 - label_smoothing) * known / known.sum(1, keepdim=True)
    target = target + label_smoothing * real / real.sum(1, keepdim=True)
    return -(target * log_softmax(scores, offsets)).sum(1)


def bce(
    scores: Tensor,
    labels: Tensor,
    offsets: Offsets,
    *,
    label_smoothing: float = 0.0,
    positive_share: float | None = None,
) -> Tensor:
    """Binary cross-entropy of each passage alone (Nogueira and Cho 2019, arXiv:1901.04085).

    -log sigmoid(s) of a positive and -log(1 - sigmoid(s)) of a negative, averaged over the group. With
    `positive_share` w it is w times the mean over the positives plus 1 - w times that over the negatives:
    0.5 balances the classes within each group. Only under this loss has a single score a meaning, the log
    odds of relevance; the others learn differences within a group.
    Label smoothing e has the targets 1 - e/2 and e/2.

    | labels | teacher |
    |---|---|
    | > 0 positive, 0 negative; grades count alike | – |

    >>> bce(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), [0, 3]).item()  # log 2
    0.6931471824645996
    """
    grades = pad(labels, offsets, -1)
    positive, negative = grades > 0, grades == 0
    target = positive.to(scores) * (1 - label_smoothing) + label_smoothing / 2
    terms = functional.binary_cross_entropy_with_logits(pad(scores, offsets), target, reduction="none")
    if positive_share is None:
        return mean(terms, positive | negative)
    return positive_share * mean(terms, positive) + (1 - positive_share) * mean(terms, negative)


def ranknet(scores: Tensor, labels: Tensor, offsets: Offsets) -> Tensor:
    """Logistic loss of every pair of different grades (Burges et al. 2005, doi:10.1145/1102351.1102363).

    log(1 + e^(s_j - s_i)), averaged over the pairs with y_i > y_j. All pairs count alike, while
    `lambdaloss` weighs them by their effect on nDCG and `listwise` emphasises the hardest negatives.

    | labels | teacher |
    |---|---|
    | grades: order of each pair | – |

    >>> ranknet(torch.zeros(3), torch.tensor([2.0, 1.0, 0.0]), [0, 3]).item()  # log 2
    0.6931471824645996
    """
    terms = functional.softplus(-minus(pad(scores, offsets)))
    return mean(terms, better(pad(labels, offsets, -1)))


def lambdaloss(
    scores: Tensor,
    labels: Tensor,
    offsets: Offsets,
    *,
    weighting: str = "ndcg_loss2++",
    k: int | None = None,
    gain: str = "exponential",
) -> Tensor:
    """RankNet with pairs weighed by nDCG: LambdaLoss (Wang et al. 2018, doi:10.1145/3269206.3271784).

    Sum over pairs of w_ij log2(1 + e^(s_j - s_i)). G is the gain over the ideal DCG, r the rank by score,
    1/D(r) = 1 / log2(1 + r) the discount; ranks, and so weights, have no gradient.

    | weighting | pairs | w_ij |
    |---|---|---|
    | `ndcg_loss1` | all i != j | G_i / D(r_i) |
    | `ndcg_loss2` | y_i > y_j | d abs(G_i - G_j), d = 1/D(abs(r_i - r_j)) - 1/D(abs(r_i - r_j) + 1) |
    | `lambdarank` | y_i > y_j | p abs(G_i - G_j), p = abs(1/D(r_i) - 1/D(r_j)); Burges 2010, MSR-TR-2010-82 |
    | `ndcg_loss2++` | y_i > y_j | (p + 10 d) abs(G_i - G_j) |

    With `k`, only pairs with a passage among the first k count, and the ideal DCG is cut at k. Equal scores
    rank the lower grade first, so a model that scores all alike can learn; passages equal in both share their
    mean rank. (Weights jump where scores differ by rounding, as in every loss made of ranks.)

    | labels | teacher |
    |---|---|
    | grades: G from 2^y - 1, or from y with `gain="linear"` | – |

    >>> scores, labels = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> round(lambdaloss(scores, labels, [0, 2], weighting="lambdarank").item(), 4)
    0.6993
    """
    values, grades = pad(scores, offsets), pad(labels, offsets, -1)
    rank, worth = ranks(values.detach(), grades), gains(grades, k, gain)
    discount = 1 / torch.log2(1 + rank)
    if weighting == "ndcg_loss1":
        real, others = grades >= 0, ~torch.eye(grades.shape[1], dtype=torch.bool, device=grades.device)
        pairs = real[:, :, None] & real[:, None, :] & others
        weights = (worth * discount)[:, :, None]
    else:
        pairs, apart = better(grades), minus(rank).abs().clamp(min=1)
        near = 1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)
        swap = minus(discount).abs()
        spread = {"ndcg_loss2": near, "lambdarank": swap, "ndcg_loss2++": swap + 10 * near}[weighting]
        weights = spread * minus(worth).abs()
    if k is not None:
        first = rank <= k
        pairs = pairs & (first[:, :, None] | first[:, None, :])
    terms = weights * functional.softplus(-minus(values))
    return torch.where(pairs, terms, 0).sum((1, 2)) / math.log(2)


def listmle(scores: Tensor, labels: Tensor, offsets: Offsets, *, position_aware: bool = False) -> Tensor:
    """Likelihood of the whole order under Plackett and Luce (Xia et al. 2008, doi:10.1145/1390156.1390306).

    Each passage i with lower-graded ones is chosen from itself and these:
    -log(e^s_i / (e^s_i + sum of e^s_j over y_j < y_i)), averaged over such i (the paper sums). Passages of
    one grade do not compete.

    Position-aware (`p_listmle`; Lan et al. 2014, "Position-Aware ListMLE", UAI), i at place 1, 2, … of the
    ideal order of n has the weight 2^(n - place) - 1, over the sum of these weights: the first places count
    most. Passages of one grade share the mean weight of their places.
    Both equal `listwise` if all positives have one grade.

    | labels | teacher |
    |---|---|
    | grades: the order; useful with at least three grades | – |

    >>> listmle(torch.zeros(3), torch.tensor([2.0, 1.0, 0.0]), [0, 3]).item()  # (log 3 + log 2) / 2
    0.8958797454833984
    """
    grades = pad(labels, offsets, -1)
    terms, counted = choices(pad(scores, offsets), grades)
    if not position_aware:
        return mean(terms, counted)
    above, equal = better(grades).sum(1).to(scores), (minus(grades) == 0).sum(2).to(scores)
    size = (grades >= 0).sum(1, keepdim=True).to(scores)
    # Mean of 2^-place - 2^-n over the places above + 1 to above + equal; 2^n itself would overflow.
    weights = torch.exp2(-above) * (1 - torch.exp2(-equal)) / equal - torch.exp2(-size)
    weights = torch.where(counted, weights, 0)
    return (weights * terms).sum(1) / weights.sum(1).clamp(min=torch.finfo(scores.dtype).tiny)


def approx_ndcg(scores: Tensor, labels: Tensor, offsets: Offsets, *, gain: str = "exponential") -> Tensor:
    """1 - nDCG with smooth ranks (Qin et al. 2010, doi:10.1007/s10791-009-9124-x; Bruch et al. 2019, below).

    nDCG = sum of G_i / log2(1 + r_i), G the gain over the ideal DCG, r_i = 1 + sum of
    sigmoid(10 (s_j - s_i)) over j != i (doi:10.1145/3331184.3331347 has the 10). The loss approximates
    the measure itself; its gradient vanishes for scores far apart, so it suits a model that ranks already.

    | labels | teacher |
    |---|---|
    | grades: G from 2^y - 1, or from y with `gain="linear"`, which is the measure `nDCG` | – |

    >>> approx_ndcg(torch.tensor([5.0, 0.0]), torch.tensor([1.0, 0.0]), [0, 2]).item()
    0.0
    """
    grades = pad(labels, offsets, -1)
    ahead = torch.sigmoid(-10 * minus(pad(scores, offsets)))  # (G, n, n) degree to which j ranks before i
    rank = 0.5 + torch.where((grades >= 0)[:, None, :], ahead, 0).sum(2)  # j = i adds one half
    return 1 - (gains(grades, None, gain) / torch.log2(1 + rank)).sum(1)


def margin_mse(scores: Tensor, labels: Tensor, offsets: Offsets, teacher: Tensor) -> Tensor:
    """Squared difference to the teacher's margins (Hofstätter et al. 2020, arXiv:2010.02666).

    ((s_p - s_n) - (t_p - t_n))^2, averaged over the pairs of a positive p and a negative n. It learns the
    teacher's scale, where `kl` learns its distribution; a constant added to the scores has no effect.

    | labels | teacher |
    |---|---|
    | > 0 positive, 0 negative; grades count alike | raw scores |

    >>> student, labels, teacher = torch.tensor([[3.0, 1.0], [1.0, 0.0], [7.0, 4.0]])
    >>> margin_mse(student, labels, [0, 2], teacher).item()
    1.0
    """
    pairs = better(pad((labels > 0).to(labels), offsets, -1))
    return mean(minus(pad(scores - teacher, offsets)).square(), pairs)


def kl(
    scores: Tensor, labels: Tensor, offsets: Offsets, teacher: Tensor, *, teacher_temperature: float = 1.0
) -> Tensor:
    """Listwise distillation: divergence of the student's softmax from the teacher's.

    Sum of q_i (log q_i - log softmax(s)_i), q = softmax(t / `teacher_temperature`) over the group (Hinton et
    al. 2015, arXiv:1503.02531; over passages Cao et al. 2007's ListNet with the teacher's scores as grades).
    The factor temperature^2 of Hinton et al. is left out; `loss.weights` can add it.

    | labels | teacher |
    |---|---|
    | ignored | raw scores |

    >>> student, labels, teacher = torch.tensor([[4.0, 2.0], [1.0, 0.0], [3.0, 1.0]])
    >>> kl(student, labels, [0, 2], teacher).item()
    0.0
    """
    wanted = log_softmax(teacher / teacher_temperature, offsets)
    # Both are 0 on padding, which adds nothing.
    return (wanted.exp() * (wanted - log_softmax(scores, offsets))).sum(1)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "listwise": listwise,
    "softmax": softmax,
    "bce": bce,
    "ranknet": ranknet,
    "lambdaloss": lambdaloss,
    "listmle": listmle,
    "p_listmle": partial(listmle, position_aware=True),
    "approx_ndcg": approx_ndcg,
    "margin_mse": margin_mse,
    "kl": kl,
}
