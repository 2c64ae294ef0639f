"""The contrastive loss: scores, labels and group offsets in, a number a group out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence


def listwise(
    scores: torch.Tensor, positive: torch.Tensor, offsets: Sequence[int], *, temperature: float = 1.0
) -> torch.Tensor:
    """Softmax cross-entropy of each positive against the negatives of its group.

    For a positive p and the group's negatives N it is -log(e^p / (e^p + sum of e^n over N)),
    averaged over the positives of the group. Other positives are not in the denominator: two
    relevant passages do not compete. With one positive it is the usual cross-entropy over
    the group (InfoNCE with hard negatives: van den Oord et al. 2018, arXiv:1807.03748;
    localized contrastive estimation: Gao et al. 2021, arXiv:2101.08751).

    | input | shape | meaning |
    |---|---|---|
    | scores | (N,) float | raw scores of all passages, group after group |
    | positive | (N,) bool | which of them are positives |
    | offsets | G + 1 ints | group g is `offsets[g]:offsets[g + 1]`; sizes may differ |

    Args:
        scores: raw scores.
        positive: marks of the positives; each group has at least one, and one negative.
        offsets: where the groups begin.
        temperature: scores are divided by it.

    Returns:
        Loss of each group, shape (G,). The caller divides by the number of groups in the
        step, over all batches and processes (contract 1).

    >>> listwise(torch.tensor([1.0, 1.0]), torch.tensor([True, False]), [0, 2]).item()  # log 2
    0.6931471824645996
    """
    scaled = scores.float() / temperature
    spans = list(pairwise(offsets))
    negatives = [scaled[start:stop][~positive[start:stop]] for start, stop in spans]
    # log of the sum over each group's negatives; -inf padding adds nothing to it.
    against = pad_sequence(negatives, batch_first=True, padding_value=float("-inf")).logsumexp(dim=1)  # (G,)
    group = torch.repeat_interleave(
        torch.tensor([stop - start for start, stop in spans], device=scores.device)
    )
    terms = functional.softplus(against[group[positive]] - scaled[positive])  # one a positive
    count = torch.bincount(group[positive], minlength=len(spans))
    return torch.zeros_like(against).index_add(0, group[positive], terms) / count


LOSSES = {"listwise": listwise}
