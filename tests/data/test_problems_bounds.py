"""A collector of problems takes little memory, whatever is wrong."""

import pytest
from uprank.configs.errors import UserError
from uprank.data import problems as module
from uprank.data.problems import ERROR, Findings, Problems, require


def test_beyond_a_limit_only_the_number_is_kept(monkeypatch):
    monkeypatch.setattr(module, "MOST", 30)
    found = Problems(("row", f"f:{k}: wrong") for k in range(100))
    found.add("columns", "a note")
    assert (len(found), found.uncounted) == (30, {"row": 70, "columns": 1})
    whole = Problems()
    whole += found.of(ERROR)
    with pytest.raises(UserError) as caught:
        require(whole)
    assert caught.value.problems[-1].startswith("… and 80 more")
    findings = Findings()
    findings.extend(found)
    assert findings.counts == {"row": 100, "columns": 1}


def test_a_long_text_is_cut_in_its_middle():
    found = Problems([("row", "f:1: id '" + "x" * 10**6 + "' is not there")])
    assert len(found[0]) < 2500
    assert found[0].startswith("f:1: id 'xxx")
    assert found[0].endswith("' is not there")
