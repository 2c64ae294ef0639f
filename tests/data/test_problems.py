"""Problems and findings: kinds, order, counts, and how they are raised together."""

import copy
import pickle

import pytest
from uprank.configs.errors import UserError, collect
from uprank.data.problems import ERROR, KINDS, SHOWN, WARNING, Findings, Problems, require


def test_problems_keep_their_order_and_kinds():
    row, problems = Problems(), Problems()
    row.add("empty text", "x")
    problems.add("file", "f: gone")
    problems.extend(row, "twice", where="f:1")  # another collector keeps its kinds
    problems += ["f:2: plain"]
    problems.extend(["f: damaged"], "file")
    assert problems == ["f: gone", "f:1: x", "f:2: plain", "f: damaged"]
    assert problems.kinds == ["file", "empty text", "row", "file"]
    assert problems.of("file") == ["f: gone", "f: damaged"]
    assert (problems.of(ERROR), problems.of(WARNING)) == (problems, [])
    for other in (copy.copy(problems), copy.deepcopy(problems), pickle.loads(pickle.dumps(problems))):
        assert (other, other.kinds) == (problems, problems.kinds)


@pytest.mark.parametrize("collector", [Problems, Findings])
def test_a_kind_that_nobody_knows_is_an_error_of_ours(collector):
    with pytest.raises(AssertionError, match="unknown kind of problem: 'empty'"):
        collector().add("empty", "f:1: x")
    assert {severity for severity, _ in KINDS.values()} == {ERROR, WARNING}


def test_what_a_check_raises_is_collected_with_its_advice():
    def check(value):
        if value < 0:
            raise UserError(["a", "b"], advice="Do this")
        return value

    for problems in (Problems(), []):
        assert (collect(problems, check, 1), problems) == (1, [])
        assert (collect(problems, check, -1), problems) == (None, ["a", "b. Do this"])


def test_findings_keep_few_and_count_all():
    findings, problems = Findings(2), Problems()
    problems.extend([f"f:{k}: x" for k in range(5)], "empty text")
    problems += ["f:9: plain"]
    findings.extend(problems)
    findings.add("near-duplicate", "f:1: y")
    findings.extend(Problems([("empty text", "f:1: z")]), "dropped")
    assert findings.examples["empty text"] == ["f:0: x", "f:1: x"]
    assert (findings.count(ERROR), findings.count(WARNING)) == (6, 2)
    assert findings.ordered() == ["row", "empty text", "near-duplicate", "dropped"]
    again = Findings.from_facts(findings.as_facts())
    assert (again.counts, again.examples) == (findings.counts, findings.examples)


def test_nothing_wrong_raises_nothing():
    require([])


def test_few_problems_are_all_shown():
    with pytest.raises(UserError) as caught:
        require([f"p{k}" for k in range(SHOWN)], advice="do this")
    assert caught.value.problems == [f"p{k}" for k in range(20)]
    assert caught.value.advice == "do this"


def test_many_problems_are_cut_and_counted():
    given = [f"p{k}" for k in range(35)]
    with pytest.raises(UserError) as caught:
        require(given)
    assert caught.value.problems == given[:20] + ["… and 15 more; `uprank check examples=null` prints all"]
    assert len(given) == 35  # the list of the caller stays
