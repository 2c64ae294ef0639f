import html
import math
import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from uprank.data.groups import Collection
from uprank.eval.curves import training_curves
from uprank.eval.html import QueryExample, headline_system, moved_queries, render
from uprank.eval.output import write_report
from uprank.eval.report import (
    Audit,
    Calibration,
    Comparison,
    DepthPoint,
    Estimate,
    Histogram,
    Report,
    System,
)

HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Checks the nesting, collects the attributes and the text that a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == [], "unclosed elements"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data


def system(name, value, kind="model"):
    results = {"nDCG@10": Estimate(value, value - 0.03, value + 0.03)}
    return System(name, kind, f"runs/{name}", f"sha256:{name}-weights", results, 1200, 12, 0, 4.0, "fp32")


def report(queries=120, name="tuned", **changes):
    before = {f"q{i}": 1 / math.log2(2 + i % 9) for i in range(queries)}
    after = {q: min(1.0, max(0.0, v + 0.3 * math.sin(int(q[1:])))) for q, v in before.items()}
    values = Report(
        created="2025-01-20T14:03:11+00:00",
        version="0.1.0",
        command="uprank eval data.test=claims",
        data="claims/test.jsonl",
        fingerprint="sha256:data-fingerprint",
        queries=queries,
        missing_queries=["q7"],
        unanswerable_queries=[],
        candidates="bm25",
        depth=100,
        recall=0.912,
        measures=["nDCG@10"],
        baseline="base",
        systems=[system("bm25", 0.6, "first_stage"), system("base", 0.67), system(name, 0.712)],
        comparisons=[
            Comparison("bm25", "base", "nDCG@10", -0.07, -0.1, -0.04, 0.0004, 20, 30, 70),
            Comparison(name, "base", "nDCG@10", 0.042, 0.018, 0.066, 0.0012, 62, 30, 28),
        ],
        per_query={"nDCG@10": {"base": before, name: after}},
    )
    return replace(values, **changes)


def training_rows():
    rows = [{"step": 0, "dev": {"nDCG@10": 0.65}}]
    for step in range(1, 41):
        rows.append({"step": step, "loss": 2 / step, "learning_rate": 2e-5 * step / 40, "grad_norm": 3.0,
                     "queries_per_second": 14.0, "tokens_per_second": 9000.0})  # fmt: skip
    return [*rows, {"step": 20, "dev": {"nDCG@10": 0.7123}}, {"step": 40, "dev": {"nDCG@10": 0.69}}]


def example(text="a passage", query="a question"):
    documents = [(9, 1, -1.25, 3.5, True, text), (1, 2, 0.5, 0.25, False, "b"), (2, 2, 0.1, 0.0, None, "c")]
    return QueryExample("q11", query, 0.25, 0.75, documents)


def full():
    return render(report(), title="Claims", steps=training_rows(), examples=[example()])


def test_what_the_reader_looks_for_is_there():
    text = Page(full()).text
    for wanted in (
        "Claims", "+0.042", "tuned is better than base", "0.712", "−0.070", "62 better", "28 worse",
        "1 query without candidates, counted as 0: q7.", "recall 0.912", "a question", "−1.250", "unjudged",
        "Loss", "Dev nDCG@10", "best 0.712 at step 20", "the untuned base, 0.650", "Learning rate",
        "claims/test.jsonl", "sha256:data-fingerprint", "uprank eval data.test=claims",
        "sha256:tuned-weights", "2025-01-20T14:03:11+00:00", "0.1.0",
    ):  # fmt: skip
        assert wanted in text.replace("\u00a0", " "), wanted


@pytest.mark.parametrize("queries", [1, 120, 2500])
def test_the_charts_hold_every_query(queries):
    page = Page(render(report(queries), title="t"))
    assert page.tags.count("svg") == 3
    dots = [float(v) for tag, name, v in page.attributes if tag == "circle" and name in ("cx", "cy")]
    assert dots
    assert all(0 <= value <= 440 for value in dots)
    assert 0 < page.tags.count("rect") <= 380 or queries == 1
    assert ("neighbouring" in page.text) == (queries == 2500)


def test_hostile_texts_stay_texts():
    values = report(name=HOSTILE, data=HOSTILE, command=HOSTILE, missing_queries=[HOSTILE])
    values.per_query["nDCG@10"]["base"][HOSTILE] = 0.1
    values.per_query["nDCG@10"][HOSTILE][HOSTILE] = 0.9
    examples = [replace(example(HOSTILE, HOSTILE), query_id=HOSTILE)]
    steps = [{"step": step, "dev": {HOSTILE: 0.1}} for step in (0, 1)]
    text = render(values, title=HOSTILE, steps=steps, examples=examples)
    page = Page(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 6
    assert text.count(html.escape("<script>alert(")) >= 6


def test_nothing_is_loaded_from_elsewhere():
    text = full()
    page = Page(text)
    loads = [(t, n, v) for t, n, v in page.attributes if n in ("src", "href", "srcset", "data", "action")]
    assert loads == [("link", "href", "data:,"), ("a", "href", "#limits")]
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    "values",
    [
        report(systems=[system("only", 0.5)], comparisons=[], baseline="only", per_query={}),
        report(systems=[], comparisons=[], measures=[], per_query={}, queries=0),
        report(comparisons=[], per_query={}),
        report(1),
        report(measures=["MRR@10", "nDCG@10"]),
    ],
    ids=["one system", "nothing", "no comparison", "one query", "unmeasured first measure"],
)
def test_degenerate_reports_are_pages(values):
    page = Page(render(values, title="t", steps=[], examples=[]))
    assert "How it was run" in page.text
    assert not re.search(r"\bnan\b|\bNone\b", page.text)


def test_a_query_example_without_documents_is_shown():
    assert "a question" in Page(render(report(), title="t", examples=[replace(example(), documents=[])])).text


def test_an_undecided_difference_is_not_coloured_as_a_gain():
    undecided = [Comparison("tuned", "base", "nDCG@10", 0.01, -0.01, 0.03, 0.4, 50, 30, 40)]
    text = render(report(comparisons=undecided), title="t")
    assert 'class="figure-large is-same"' in text
    assert "not distinguishable" in text


def test_the_headline_is_the_last_model_that_is_not_the_baseline():
    assert headline_system(report()) == "tuned"
    assert headline_system(report(baseline="tuned")) == "base"
    assert headline_system(report(systems=report().systems[:2])) == "bm25"
    assert headline_system(report(systems=report().systems[1:2])) == ""


def test_moved_queries_come_largest_first_and_moved():
    values = report(3)
    values.per_query["nDCG@10"] = {
        "base": {"a": 0.5, "b": 0.5, "c": 0.1, "d": 0.2},
        "tuned": {"a": 0.4, "b": 0.5, "c": 0.9, "d": 0.3},
    }
    assert moved_queries(values, 10) == ["c", "a", "d"]
    assert moved_queries(values, 1) == ["c"]


def test_curves_survive_gaps_and_non_finite_values():
    rows = [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": None}, {"step": 3, "loss": 1.0}]
    assert training_curves(rows) == []
    (curve,) = training_curves([*rows, {"step": 4, "loss": 1.0}])
    assert curve.title == "Loss"
    assert "nan" not in curve.line


def measured(name="tuned"):
    """A system with everything that a model of today has."""
    results = {"nDCG@10": Estimate(0.7, 0.65, 0.75)}
    return replace(
        system(name, 0.712),
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


def test_depths_scores_calibration_and_checks_are_there():
    values = report(hardware="a named processor", systems=[*report().systems[:2], measured()])
    page = Page(render(values, title="t"))
    text = page.text.replace("\u00a0", " ")
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


def test_depths_without_a_time_have_a_dash_and_no_chart_of_cost():
    tuned = measured()
    tuned = replace(tuned, depths=[replace(point, seconds=None) for point in tuned.depths])
    text = Page(render(report(systems=[*report().systems[:2], tuned]), title="t")).text
    assert "12,340–0.700" in text.replace("\n", "")
    assert "by depth" in text
    assert "by cost" not in text
    assert "None" not in text


def test_a_loud_check_is_loud_and_a_quiet_one_is_not():
    values = report(systems=[*report().systems[:2], measured()], missing_queries=[])
    page = render(values, title="t")
    loud = page[
        page.index('<ul class="loud-list">') : page.index("</ul>", page.index('<ul class="loud-list">'))
    ]
    assert "equal scores everywhere" in loud
    assert "scores of a query range over" not in loud
    assert "1 finding limits these numbers" in page


def test_a_leak_is_said_once_with_the_results_without_it():
    figures = {"queries": 9.0, "nDCG@10": 0.61, "nDCG@10 low": 0.5, "nDCG@10 high": 0.7}
    leaking = replace(measured(), audits=[Audit("leak", True, "0.610 on the 9 queries not in it", figures)])
    told = Audit("leak", True, "3 of 12 queries in data.train", {"queries": 3.0})
    values = report(systems=[*report().systems[:2], leaking], audits=[told])
    text = Page(render(values, title="t")).text
    assert "Without the queries in the training data" in text
    assert "0.610 [0.500, 0.700]" in text
    assert "1 finding limits these numbers" in text


def test_added_positives_are_said_under_every_table_of_results():
    values = report(added_positives=4, systems=[*report().systems[:2], measured()])
    page = render(values, title="t")
    for place in ("results", "differences", "all-queries", "depths"):
        section = page[page.index(f'<section aria-labelledby="{place}">') :]
        below = section[section.index("</table>") : section.index("</section>")]
        assert "4 relevant passages that the first stage did not find were added" in below, place
    assert "were added" not in Page(render(report(), title="t")).text


def test_holm_and_what_could_be_detected_are_shown():
    c = replace(report().comparisons[1], p=0.0312, p_holm=0.0624, detectable=0.037)
    text = Page(render(report(comparisons=[c]), title="t")).text
    assert "0.031" in text
    assert "0.062" in text
    assert "0.037" in text
    assert 'class="mean is-same"' in render(report(comparisons=[c]), title="t")  # Holm decides


def test_runs_alone_have_no_candidates_and_unranked_documents_no_rank(tmp_path):
    values = report(2, candidates="", depth=0, missing_queries=[])
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


def test_a_page_of_seven_thousand_queries_stays_small():
    values = report(7000)
    generator = random.Random(1)
    values.per_query["nDCG@10"] = {
        name: {f"q{i}": generator.random() for i in range(7000)} for name in ("base", "tuned")
    }
    text = render(values, title="t")
    assert len(text) < 1_500_000
    assert "several queries whose values agree to 0.05" in text


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """WCAG 2.2, contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme):
    block = re.findall(r":root \{(.*?)\}", full(), re.S)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block))
    for text in ("ink", "soft", "better", "worse", "same"):
        for ground in ("page", "card", "loud"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for drawn in ("better-fill", "worse-fill", "same-fill", "violet", "teal", "focus"):
        assert contrast(colours[drawn], colours["card"]) >= 3, drawn
