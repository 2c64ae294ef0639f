"""Dev queries whose relevant passages are those of training: their figures promise too much."""

from uprank.data.checks import CheckedSource, check_splits
from uprank.data.groups import Group
from uprank.data.problems import Findings


def source(name, *positives):
    return [
        CheckedSource(
            name,
            [Group(f"{name} query {k}", (text,), ("x",), f"{name}:{k}") for k, text in enumerate(positives)],
        )
    ]


def test_shared_relevant_passages_are_a_warning_with_their_number():
    findings = Findings()
    splits = {"train": source("train", "a", "b", "c"), "dev": source("dev", "a", "b", "new", "x")}
    _, (shared,) = check_splits(splits, findings)
    assert (shared.answered, shared.passages) == (2, 3)  # x is a negative of training
    (text,) = findings.examples["shared passages"]
    assert text.startswith("2 of 4 dev queries have a relevant passage that is relevant in train, too")
    assert text.endswith("uprank split data=… by=passage")


def test_a_few_are_normal_where_both_search_one_corpus():
    findings = Findings()
    splits = {"train": source("train", "a"), "dev": source("dev", "a", *(f"new {k}" for k in range(9)))}
    check_splits(splits, findings)
    assert "shared passages" not in findings.counts
