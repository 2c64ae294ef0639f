"""Every loss against a brute force in plain Python floats (64 bits), in value and gradient."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.configs.validate_loss import GAINS, NEEDS, WEIGHTINGS
from uprank.train.losses.losses import LOSSES

# What is tried: the loss and its options; each brute force below knows them by the same names.
CASES = [
    ("listwise", {}),
    ("listwise", {"label_smoothing": 0.1}),
    ("softmax", {}),
    ("softmax", {"label_smoothing": 0.2}),
    ("bce", {}),
    ("bce", {"positive_share": 0.5, "label_smoothing": 0.1}),
    ("ranknet", {}),
    *(("lambdaloss", {"weighting": name}) for name in WEIGHTINGS),
    *(("lambdaloss", {"weighting": name, "k": 2, "gain": "linear"}) for name in WEIGHTINGS),
    ("listmle", {}),
    ("p_listmle", {}),
    *(("approx_ndcg", {"gain": name}) for name in GAINS),
    ("margin_mse", {}),
    ("kl", {}),
    ("kl", {"teacher_temperature": 2.5}),
]
EACH = pytest.mark.parametrize(("name", "options"), CASES, ids=lambda part: str(part))


# The brute forces: one group as lists of floats; `fixed` are the scores that ranks are made of.


def brute_listwise(s, y, t, fixed, label_smoothing=0.0):
    negatives, terms = [a for a, g in zip(s, y, strict=True) if g == 0], []
    for p in (a for a, g in zip(s, y, strict=True) if g > 0):
        rivals = [p, *negatives]
        share = label_smoothing / len(rivals)
        target = [1 - label_smoothing + share] + [share] * len(negatives)
        terms.append(-sum(q * math.log(x) for q, x in zip(target, brute_softmax_of(rivals), strict=True)))
    return sum(terms) / len(terms)


def brute_softmax_of(values):
    return [1 / sum(math.exp(b - a) for b in values) for a in values]


def brute_softmax(s, y, t, fixed, label_smoothing=0.0):
    target = [(1 - label_smoothing) * g / sum(y) + label_smoothing / len(y) for g in y]
    return -sum(q * math.log(p) for q, p in zip(target, brute_softmax_of(s), strict=True))


def brute_bce(s, y, t, fixed, label_smoothing=0.0, positive_share=None):
    terms = []
    for a, g in zip(s, y, strict=True):
        p, q = 1 / (1 + math.exp(-a)), abs((g > 0) - label_smoothing / 2)
        terms.append(-q * math.log(p) - (1 - q) * math.log(1 - p))
    if positive_share is None:
        return sum(terms) / len(terms)
    halves = [[x for x, g in zip(terms, y, strict=True) if (g > 0) is kind] for kind in (True, False)]
    means = [sum(half) / len(half) for half in halves]
    return positive_share * means[0] + (1 - positive_share) * means[1]


def brute_ranknet(s, y, t, fixed):
    n = range(len(s))
    terms = [math.log(1 + math.exp(s[j] - s[i])) for i in n for j in n if y[i] > y[j]]
    return sum(terms) / len(terms)


def brute_gains(y, k, gain):
    worth = [2**g - 1 if gain == "exponential" else g for g in y]
    best = sorted(worth, reverse=True)[:k]
    ideal = sum(g / math.log2(place + 1) for place, g in enumerate(best, 1))
    return [g / ideal for g in worth]


def brute_ranks(s, y):
    keys = [(-a, g) for a, g in zip(s, y, strict=True)]
    places = {key: [] for key in keys}
    for place, key in enumerate(sorted(keys), 1):
        places[key].append(place)
    return [sum(places[key]) / len(places[key]) for key in keys]


def brute_lambdaloss(s, y, t, fixed, weighting, k=None, gain="exponential"):
    g, r, total = brute_gains(y, k, gain), brute_ranks(fixed, y), 0.0

    def discount(rank):
        return 1 / math.log2(1 + rank)

    for i in range(len(s)):
        for j in range(len(s)):
            if i == j or (k and min(r[i], r[j]) > k) or (weighting != "ndcg_loss1" and y[i] <= y[j]):
                continue
            if weighting == "ndcg_loss1":
                weight = g[i] * discount(r[i])
            else:
                swap = abs(discount(r[i]) - discount(r[j]))
                near = discount(abs(r[i] - r[j])) - discount(abs(r[i] - r[j]) + 1)
                kinds = {"lambdarank": swap, "ndcg_loss2": near, "ndcg_loss2++": swap + 10 * near}
                weight = kinds[weighting] * abs(g[i] - g[j])
            total += weight * math.log2(1 + math.exp(s[j] - s[i]))
    return total


def brute_listmle(s, y, t, fixed, positions=False):
    n, terms, weights = len(s), [], []
    order = sorted(range(n), key=lambda i: -y[i])
    for i in range(n):
        below = [s[j] for j in range(n) if y[j] < y[i]]
        if below:
            terms.append(-math.log(brute_softmax_of([s[i], *below])[0]))
            shared = [2 ** (n - place) - 1 for place, j in enumerate(order, 1) if y[j] == y[i]]
            weights.append(sum(shared) / len(shared) if positions else 1)
    return sum(w * x for w, x in zip(weights, terms, strict=True)) / sum(weights)


def brute_p_listmle(s, y, t, fixed):
    return brute_listmle(s, y, t, fixed, positions=True)


def brute_approx_ndcg(s, y, t, fixed, gain):
    value = 0.0
    for i, worth in enumerate(brute_gains(y, None, gain)):
        rank = 1 + sum(1 / (1 + math.exp(-10 * (s[j] - s[i]))) for j in range(len(s)) if j != i)
        value += worth / math.log2(1 + rank)
    return 1 - value


def brute_margin_mse(s, y, t, fixed):
    n = range(len(s))
    pairs = [(i, j) for i in n for j in n if y[i] > 0 and y[j] == 0]
    return sum(((s[i] - s[j]) - (t[i] - t[j])) ** 2 for i, j in pairs) / len(pairs)


def brute_kl(s, y, t, fixed, teacher_temperature=1.0):
    wanted = brute_softmax_of([a / teacher_temperature for a in t])
    return sum(q * math.log(q / p) for q, p in zip(wanted, brute_softmax_of(s), strict=True))


def brute(name, options, group, moved=None):
    scores, grades, teacher = group
    return globals()[f"brute_{name}"](moved or scores, grades, teacher, scores, **options)


# Scores to one decimal, so that ties are common.
SCORE = st.integers(-60, 60).map(lambda tenths: tenths / 10)
ROW = st.tuples(SCORE, st.integers(0, 3), SCORE)
GROUP = st.tuples(
    st.tuples(SCORE, st.integers(1, 3), SCORE),
    st.tuples(SCORE, st.just(0), SCORE),
    st.lists(ROW, max_size=5),
    st.randoms(use_true_random=False),
)


@st.composite
def ragged_groups(draw):
    """Groups of (scores, grades, teacher), each with a positive and a negative at any place."""
    groups = []
    for positive, negative, rest, random in draw(st.lists(GROUP, min_size=1, max_size=4)):
        rows = [positive, negative, *rest]
        random.shuffle(rows)
        groups.append(tuple(list(column) for column in zip(*rows, strict=True)))
    return groups


def call(name, options, groups, dtype=torch.float64):
    """Losses (G,) and the scores (N,) they were made of, which gather gradients."""
    offsets = [0]
    for scores, _, _ in groups:
        offsets.append(offsets[-1] + len(scores))
    flat = [torch.tensor([x for group in groups for x in group[part]], dtype=dtype) for part in range(3)]
    scores, labels, teacher = flat
    scores.requires_grad_()
    taught = [teacher] if NEEDS[name].teacher else []
    return LOSSES[name](scores, labels, offsets, *taught, **options), scores


def learned(name, options, groups, dtype=torch.float64):
    losses, scores = call(name, options, groups, dtype)
    losses.sum().backward()
    return losses.detach(), scores.grad


@EACH
@given(groups=ragged_groups())
@settings(max_examples=25, deadline=None)
def test_values_and_gradients_are_those_of_the_brute_force(name, options, groups):
    losses, gradient = learned(name, options, groups)
    wanted, slopes = [], []
    for group in groups:
        wanted.append(brute(name, options, group))
        for place in range(len(group[0])):
            two = []
            for step in (1e-5, -1e-5):
                moved = list(group[0])
                moved[place] += step
                two.append(brute(name, options, group, moved))
            slopes.append((two[0] - two[1]) / 2e-5)
    assert losses.tolist() == pytest.approx(wanted, rel=1e-8, abs=1e-9)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-4, abs=1e-6)
    single, gradient32 = learned(name, options, groups, torch.float32)
    assert single.dtype == torch.float32
    # Ranks made of tenths are the same in 32 bits.
    assert single.tolist() == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert gradient32.tolist() == pytest.approx(slopes, rel=1e-3, abs=1e-3)


@EACH
def test_gradcheck(name, options):
    torch.manual_seed(1)
    grades, offsets = torch.tensor([2.0, 0, 1, 0, 0, 1, 0, 3, 1, 2, 0]).double(), [0, 5, 7, 11]
    scores, teacher = torch.randn(11).double().requires_grad_(), torch.randn(11).double()
    taught = [teacher] if NEEDS[name].teacher else []
    assert torch.autograd.gradcheck(lambda s: LOSSES[name](s, grades, offsets, *taught, **options), scores)


@EACH
@given(groups=ragged_groups(), random=st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_a_group_counts_the_same_in_every_batch_and_every_order(name, options, groups, random):
    """Batches split in any way, more or less padding, groups and passages in any order."""
    losses, gradient = learned(name, options, groups)
    pieces = [list(piece) for piece in zip(losses.tolist(), split(gradient.tolist(), groups), strict=True)]
    order = random.sample(range(len(groups)), len(groups))
    cuts = sorted(random.sample(range(1, len(order)), random.randrange(len(order))))
    for start, stop in pairwise([0, *cuts, len(order)]):
        batch, places = [], []
        for number in order[start:stop]:
            size = len(groups[number][0])
            places.append(random.sample(range(size), size))
            batch.append(tuple([column[place] for place in places[-1]] for column in groups[number]))
        found, slopes = learned(name, options, batch)
        for number, value, slope, place in zip(
            order[start:stop], found.tolist(), split(slopes.tolist(), batch), places, strict=True
        ):
            assert value == pytest.approx(pieces[number][0], rel=1e-10, abs=1e-12)
            assert slope == pytest.approx([pieces[number][1][i] for i in place], rel=1e-9, abs=1e-11)


def split(values, groups):
    rest = iter(values)
    return [[next(rest) for _ in group[0]] for group in groups]


@EACH
def test_far_scores_stay_finite_and_sound(name, options):
    far = [[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [1e4, 0.0, -1e4, 1e4], [0.0] * 300]
    groups = [(s, [2, *[0] * (len(s) - 2), 0], s[::-1]) for s in far]
    groups[3] = (far[3], [0, 3, 1, 0], far[3][::-1])
    groups[4] = (far[4], [*range(299, 0, -1), 0], far[4])  # a long list of grades: 2^y would overflow
    losses, gradient = learned(name, options, groups, torch.float32)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    assert (losses >= -1e-6).all()
    for number, group in enumerate(groups[:4]):  # alone it is the same, whatever stands beside it
        alone = call(name, options, [group], torch.float32)[0].item()
        assert alone == pytest.approx(losses[number].item(), rel=1e-6)


@EACH
def test_what_it_learns_puts_the_better_passage_first(name, options):
    scores = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.SGD([scores], lr=0.3)
    grades, teacher = torch.tensor([0.0, 1, 3, 0]), torch.tensor([-1.0, 1, 3, -1])
    for _ in range(300):
        optimizer.zero_grad()
        taught = [teacher] if NEEDS[name].teacher else []
        LOSSES[name](scores, grades, [0, 4], *taught, **options).sum().backward()
        optimizer.step()
    assert min(scores[1:3]) > max(scores[0], scores[3]) + 0.05
    assert scores[0].item() == pytest.approx(scores[3].item(), abs=1e-6)  # equal grades, equal scores
    if name not in ("listwise", "bce"):  # in which all positives are alike
        assert scores[2] > scores[1] + 0.02


def test_every_loss_is_tried():
    assert LOSSES.keys() == NEEDS.keys() == {name for name, _ in CASES}
