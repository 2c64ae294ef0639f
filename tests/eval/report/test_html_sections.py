"""Single sections of the page: depths, checks, leaks, added positives, runs alone."""

import re
from dataclasses import replace

import pytest
from uprank.data.groups import Collection
from uprank.eval.report.page import render_report
from uprank.eval.report.sentences import level_lines
from uprank.eval.report.write import write_report
from uprank.eval.results import Audit, Calibration, DepthPoint, Estimate, Histogram


@pytest.fixture
def measured(html_system):
    """A system with everything that a model of today has."""
    results = {"nDCG@10": Estimate(0.7, 0.65, 0.75)}
    return replace(
        html_system("tuned", 0.712),
        cached_pairs=200,
        backend="onnx",
        query_tokens=64,
        max_tokens=512,
        depths=[DepthPoint(10, results, 1234, 5.5), DepthPoint(100, results, 12340, 55.1)],
        histogram=Histogram([-2.0, 0.0, 2.0], [1, 3], [40, 8]),
        calibration=Calibration("judged", [40, 12], [0.2, 0.8], [0.1, 0.7], 0.1234),
        audits=[
            Audit("ties", True, "equal scores everywhere; from -0.5 up"),
            Audit("spread", False, "scores of a query range over 3.10"),
        ],
    )


def test_depths_scores_calibration_and_checks_are_there(read_html, html_report, measured):
    values = html_report(hardware="a named processor", systems=[*html_report().systems[:2], measured])
    page = read_html(render_report(values, title="t"))
    text = page.text
    for wanted in (
        "1,234", "55.1", "tuned, the best 100 reranked: 0.700 [0.650, 0.750], 12,340 pairs, 55.1 s",
        "milliseconds of scoring a query", "bm25 alone", "4 relevant", "48 others",
        "score 0.00 to 2.00: 3 relevant (75.0 % of them)", "score 0.80: 70.0 % of 12 candidates relevant",
        "Expected calibration error 0.123 over the judged candidates", "tuned: ties",
        "from −0.5 up.", "scores of a query range over 3.10.", "64 of 512", "onnx", "a named processor",
        "250",  # pairs a second, of those that did not come from the cache
    ):  # fmt: skip
        assert wanted in text, wanted
    assert page.tags.count("svg") == 7 + 4  # and the keys of lines


def test_depths_without_a_time_have_a_dash_and_no_chart_of_cost(read_html, html_report, measured):
    tuned = replace(measured, depths=[replace(point, seconds=None) for point in measured.depths])
    text = read_html(render_report(html_report(systems=[*html_report().systems[:2], tuned]), title="t")).text
    assert "12,340–0.700" in text.replace("\n", "")
    assert "by depth" in text
    assert "by cost" not in text
    assert "None" not in text


def test_a_loud_check_is_loud_and_a_quiet_one_is_not(html_report, measured):
    values = html_report(systems=[*html_report().systems[:2], measured], missing_queries=[])
    page = render_report(values, title="t")
    loud = page[
        page.index('<ul class="loud-list">') : page.index("</ul>", page.index('<ul class="loud-list">'))
    ]
    assert "equal scores everywhere" in loud
    assert "scores of a query range over" not in loud
    assert "1 finding limits these numbers" in page


def test_a_leak_is_said_once_with_the_results_without_it(read_html, html_report, measured):
    figures = {"queries": 9.0, "nDCG@10": 0.61, "nDCG@10 low": 0.5, "nDCG@10 high": 0.7}
    leaking = replace(measured, audits=[Audit("leak", True, "0.610 on the 9 queries not in it", figures)])
    told = Audit("leak", True, "3 of 12 queries in data.train", {"queries": 3.0})
    values = html_report(systems=[*html_report().systems[:2], leaking], audits=[told])
    text = read_html(render_report(values, title="t")).text
    assert "Without the queries in the training data" in text
    assert "0.610 [0.500, 0.700]" in text
    assert "1 finding limits these numbers" in text


def test_added_positives_are_said_under_every_table_of_results(read_html, html_report, measured):
    values = html_report(added_positives=4, systems=[*html_report().systems[:2], measured])
    page = render_report(values, title="t")
    for place in ("results", "differences", "all-queries", "depths"):
        section = page[page.index(f'<section aria-labelledby="{place}">') :]
        below = section[section.index("</table>") : section.index("</section>")]
        assert "4 relevant passages that the first stage did not find were added" in below, place
    assert "were added" not in read_html(render_report(html_report(), title="t")).text


def test_holm_and_what_could_be_detected_are_shown(read_html, html_report):
    c = replace(html_report().comparisons[1], p=0.0312, p_holm=0.0624, detectable=0.037)
    text = read_html(render_report(html_report(comparisons=[c]), title="t")).text
    assert "0.031" in text
    assert "0.062" in text
    assert "0.037" in text
    assert 'class="mean is-same"' in render_report(html_report(comparisons=[c]), title="t")  # Holm decides


def test_runs_alone_have_no_candidates_and_unranked_documents_no_rank(html_report, tmp_path):
    values = html_report(2, candidates="", depth=0, missing_queries=[])
    values.per_query["nDCG@10"] = {"base": {"q0": 0.2}, "tuned": {"q0": 0.9}}
    runs = {
        "base": {"q0": {"only-base": 2.0, "both": 1.0}},
        "tuned": {"q0": {"both": 0.25, "only-tuned": 0.5}},
    }
    collection = Collection("c", {"q0": "what?"}, {}, {"q0": {"both": 1, "only-tuned": 0}}, {})
    page = write_report(values, tmp_path / "r", title="t", runs=runs, collection=collection)
    text = page.read_text(encoding="utf-8")
    assert "at most 0" not in text
    assert "ach run ranks its own documents" in text
    table = text[text.index('class="documents"') :]
    cells = [
        re.sub(r"<[^>]*>|[▲▼＝\s]", " ", row).split()
        for row in re.findall(r"<tr>\s*<td.*?</tr>", table, re.S)[:3]
    ]
    assert cells == [
        ["–", "1", "–", "0.500", "not", "relevant", "only-tuned"],
        ["2", "2", "1.000", "0.250", "relevant", "both"],
        ["1", "–", "2.000", "–", "unjudged", "only-base"],
    ]


def test_the_largest_figure_is_the_result_and_below_it_the_difference(html_report):
    page = render_report(html_report(), title="t")
    result = page.index('<p class="figure-large">0.712 <small>nDCG@10</small></p>')
    difference = page.index('<p class="figure-second is-better">+0.042 <small>to base, 95&nbsp;% interval')
    assert result < difference
    assert "tuned, 95&nbsp;% interval 0.682 to 0.742" in page[result:difference]


def test_findings_have_a_level_and_those_on_rivals_are_folded(html_report, measured):
    stop, know = Audit("direction", True, "ranks in reverse"), Audit("truncation", True, "much was cut")
    rival = replace(measured, name="other", audits=[Audit("spread", True, "a constant scorer")])
    tuned = replace(measured, audits=[know, stop, Audit("judged", False, "all judged")])
    systems = [*html_report().systems[:2], rival, tuned]
    values = html_report(systems=systems, missing_queries=[])
    page = render_report(values, title="t")
    main = page[page.index('id="limits"') : page.index("<details>", page.index('id="limits"'))]
    assert main.index("ranks in reverse") < main.index("much was cut")
    assert main.count("Stops you") == main.count("Know this") == 1
    assert "a constant scorer" not in main
    assert "Findings on other systems, which do not limit the comparison: 1" in page
    assert level_lines(values) == [
        "Stops you: direction of tuned.",
        "Know this: spread of other, truncation of tuned.",
        "Fine: 3 checks.",
    ]
