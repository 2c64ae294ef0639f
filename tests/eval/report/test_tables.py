import re
from dataclasses import replace

import pytest
from uprank.eval.report.sentences import audit_sentences
from uprank.eval.report.table import escape_latex, escape_markdown, latex, markdown
from uprank.eval.report.tables import report_tables, results
from uprank.eval.results import Comparison, Estimate, Report, System

HOSTILE = r"a_b & 50% $x$ #1 {c} \d ~e^f <g> |h| [i](j)"


def report(**changes):
    systems = [
        System(name, "model", "", "", {"nDCG@10": Estimate(mean, mean - 0.031, mean + 0.03)})
        for name, mean in (("base", 0.67), ("tuned", 0.712), ("worse", 0.6), ("close", 0.68))
    ]
    comparisons = [
        Comparison("tuned", "base", "nDCG@10", 0.042, 0.018, 0.066, 0.0002, 62, 30, 28, 0.0006, 0.031),
        Comparison("worse", "base", "nDCG@10", -0.07, -0.09, -0.05, 0.0004, 20, 30, 70, 0.0008, 0.033),
        Comparison("close", "base", "nDCG@10", 0.01, 0.001, 0.02, 0.04, 20, 80, 20, 0.06, 0.02),
    ]
    return replace(
        Report("2025", "0.1", "uprank eval", "d", "sha256:0", 120, ["q7"], [], "bm25", 100, 0.9, ["nDCG@10"],
               "base", systems, comparisons),
        **changes,
    )  # fmt: skip


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_has_every_figure_in_its_column():
    lines = markdown("Title", report_tables(report())).splitlines()
    rows = [cells(line) for line in lines if line.startswith("|")]
    assert rows[0] == ["System", "nDCG@10"]
    assert rows[3] == ["tuned", "0.712 [0.681, 0.742]†"]
    header = next(row for row in rows if "Detectable" in row)
    difference = dict(zip(header, rows[rows.index(header) + 2], strict=True))
    assert difference == {
        "System": "tuned", "Measure": "nDCG@10", "Difference": "+0.042 [+0.018, +0.066]", "p": r"\< 0.001",
        "p (Holm)": r"\< 0.001", "Won / tied / lost": "62 / 30 / 28", "Detectable": "0.031",
    }  # fmt: skip
    assert {len(row) for row in rows[:6]} == {2}


def test_marks_follow_holm():
    marks = {row[0]: row[1][-1] for row in results(report()).rows}
    assert marks == {"base": "]", "tuned": "†", "worse": "‡", "close": "]"}


@pytest.mark.parametrize("text", [HOSTILE, "| x | y |", "a\nb"])
def test_names_cannot_break_a_markdown_table(text):
    systems = [replace(report().systems[0], name=text), *report().systems[1:]]
    lines = markdown(text, report_tables(report(systems=systems, comparisons=[]))).splitlines()
    rows = [cells(line) for line in lines if line.startswith("|")]
    assert {len(row) for row in rows} == {2}
    assert len(rows) == 6
    assert re.sub(r"\\(.)", r"\1", rows[2][0]) == " ".join(text.split())
    assert not re.search(r"(?<!\\)\]\(", escape_markdown(text))


@pytest.mark.parametrize("text", [HOSTILE, "a\nb", "[x]"])
def test_names_cannot_break_a_latex_table(text):
    systems = [replace(report().systems[0], name=text), *report().systems[1:]]
    written = latex(report_tables(report(systems=systems)))
    bare = re.sub(r"\\[a-zA-Z]+(\{\})?|\\\\|\\[&%$#_{}]", "", written.replace(r"\\", ""))
    assert bare.count("{") == bare.count("}")
    rows = re.findall(r"^(.*) \\\\$", written, re.MULTILINE)
    counts = [len(re.findall(r"(?<!\\)&", row)) for row in rows]
    assert counts == [1] * 5 + [6] * 4
    assert not any(row.startswith("[") for row in rows)
    assert len(re.findall(r"(?<!\\)\$", written)) % 2 == 0
    assert "%" not in written.split("\n", 1)[1].replace(r"\%", "")


def test_latex_is_booktabs():
    written = latex(report_tables(report()))
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lr}", r"\label{tab:results}"):
        assert part in written
    assert r"0.712 [0.681, 0.742]$^{\dagger}$" in written
    assert r"$-$0.070 [$-$0.090, $-$0.050]" in written
    assert written.count(r"\begin{table}") == written.count(r"\end{table}") == 2


def test_a_hyphen_is_not_a_minus():
    assert escape_latex("bge-reranker-2 -0.5") == "bge-reranker-2 $-$0.5"


@pytest.mark.parametrize("added", [0, 1, 12])
def test_added_positives_are_said_under_every_table(added):
    tables = report_tables(report(added_positives=added))
    said = [f"{added} relevant passage" in table.caption for table in tables]
    assert said == [added > 0] * 2
    for text in (markdown("t", tables), latex(tables)):
        assert text.count("did not find") == (2 if added else 0)


def test_the_audits_stand_below():
    text = markdown("t", report_tables(report()), audit_sentences(report()))
    assert "- Know this: 1 query without candidates, counted as 0: q7." in text
    assert "- 120 queries. Candidates: bm25, at most 100 a query; recall 0.900" in text


def test_one_system_has_no_second_table():
    assert len(report_tables(report(comparisons=[]))) == 1
    assert "†" not in report_tables(report(comparisons=[]))[0].caption
