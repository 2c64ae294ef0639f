"""The report's page: whole, small, readable, and safe whatever the texts are."""

import html
import random
import re
from dataclasses import replace

import pytest
from uprank.eval.report.charts import training_curves
from uprank.eval.report.page import QueryExample, moved_queries, render_report
from uprank.eval.report.sentences import headline_system
from uprank.eval.results import Comparison

HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


def training_rows():
    rows = [{"step": 0, "dev": {"nDCG@10": 0.65}}]
    for step in range(1, 41):
        rows.append({"step": step, "loss": 2 / step, "learning_rate": 2e-5 * step / 40, "grad_norm": 3.0,
                     "queries_per_second": 14.0, "tokens_per_second": 9000.0})  # fmt: skip
    return [*rows, {"step": 20, "dev": {"nDCG@10": 0.7123}}, {"step": 40, "dev": {"nDCG@10": 0.69}}]


def example(text="a passage", query="a question"):
    documents = [(9, 1, -1.25, 3.5, True, text), (1, 2, 0.5, 0.25, False, "b"), (2, 2, 0.1, 0.0, None, "c")]
    return QueryExample("q11", query, 0.25, 0.75, documents)


@pytest.fixture
def full(html_report):
    """A page with everything that a training run and an evaluation give."""
    return render_report(html_report(), title="Claims", steps=training_rows(), examples=[example()])


def test_what_the_reader_looks_for_is_there(read_html, full):
    text = read_html(full).text
    for wanted in (
        "Claims", "+0.042", "tuned is better than base", "0.712", "−0.070", "62 better", "28 worse",
        "1 query without candidates, counted as 0: q7.", "recall 0.912", "a question", "−1.250", "unjudged",
        "Loss", "Dev nDCG@10", "best 0.712 at step 20", "the untuned base, 0.650", "Learning rate",
        "claims/test.jsonl", "sha256:data-fingerprint", "uprank eval data.test=claims",
        "sha256:tuned-weights", "2025-01-20T14:03:11+00:00", "0.1.0",
    ):  # fmt: skip
        assert wanted in text, wanted


@pytest.mark.parametrize("queries", [1, 120, 2500])
def test_the_charts_hold_every_query(read_html, html_report, queries):
    page = read_html(render_report(html_report(queries), title="t"))
    assert page.tags.count("svg") == 3
    dots = [float(v) for tag, name, v in page.attributes if tag == "circle" and name in ("cx", "cy")]
    assert dots
    assert all(0 <= value <= 440 for value in dots)
    assert 0 < page.tags.count("rect") <= 380 or queries == 1
    assert ("neighbouring" in page.text) == (queries == 2500)


def test_hostile_texts_stay_texts(read_html, html_report):
    values = html_report(name=HOSTILE, data=HOSTILE, command=HOSTILE, missing_queries=[HOSTILE])
    values.per_query["nDCG@10"]["base"][HOSTILE] = 0.1
    values.per_query["nDCG@10"][HOSTILE][HOSTILE] = 0.9
    examples = [replace(example(HOSTILE, HOSTILE), query_id=HOSTILE)]
    steps = [{"step": step, "dev": {HOSTILE: 0.1}} for step in (0, 1)]
    text = render_report(values, title=HOSTILE, steps=steps, examples=examples)
    page = read_html(text)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 6
    assert text.count(html.escape("<script>alert(")) >= 6


def test_nothing_is_loaded_from_elsewhere(read_html, full):
    text = full
    page = read_html(text)
    loads = [(t, n, v) for t, n, v in page.attributes if n in ("src", "href", "srcset", "data", "action")]
    assert loads == [("link", "href", "data:,"), ("a", "href", "#limits")]
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    ("queries", "changes"),
    [
        (120, {"systems": ["only"], "comparisons": [], "baseline": "only", "per_query": {}}),
        (0, {"systems": [], "comparisons": [], "measures": [], "per_query": {}}),
        (120, {"comparisons": [], "per_query": {}}),
        (1, {}),
        (120, {"measures": ["MRR@10", "nDCG@10"]}),
    ],
    ids=["one system", "nothing", "no comparison", "one query", "unmeasured first measure"],
)
def test_degenerate_reports_are_pages(read_html, html_report, html_system, queries, changes):
    if "systems" in changes:
        changes = changes | {"systems": [html_system(name, 0.5) for name in changes["systems"]]}
    page = read_html(render_report(html_report(queries, **changes), title="t", steps=[], examples=[]))
    assert "How it was run" in page.text
    assert not re.search(r"\bnan\b|\bNone\b", page.text)


def test_a_query_example_without_documents_is_shown(read_html, html_report):
    examples = [replace(example(), documents=[])]
    assert "a question" in read_html(render_report(html_report(), title="t", examples=examples)).text


def test_an_undecided_difference_is_not_coloured_as_a_gain(html_report):
    undecided = [Comparison("tuned", "base", "nDCG@10", 0.01, -0.01, 0.03, 0.4, 50, 30, 40)]
    text = render_report(html_report(comparisons=undecided), title="t")
    assert 'class="figure-second is-same"' in text
    assert "not distinguishable" in text


def test_the_headline_is_the_last_model_that_is_not_the_baseline(html_report):
    assert headline_system(html_report()) == "tuned"
    assert headline_system(html_report(baseline="tuned")) == "base"
    assert headline_system(html_report(systems=html_report().systems[:2])) == "bm25"
    assert headline_system(html_report(systems=html_report().systems[1:2])) == ""


def test_moved_queries_come_largest_first_and_moved(html_report):
    values = html_report(3)
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
    assert "nan" not in curve.curve


def test_a_page_of_seven_thousand_queries_stays_small(html_report):
    values = html_report(7000)
    generator = random.Random(1)
    values.per_query["nDCG@10"] = {
        name: {f"q{i}": generator.random() for i in range(7000)} for name in ("base", "tuned")
    }
    text = render_report(values, title="t")
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
def test_colours_have_the_contrast_of_wcag_aa(full, scheme):
    block = re.findall(r":root \{(.*?)\}", full, re.S)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block))
    for text in ("ink", "soft", "better", "worse", "same"):
        for ground in ("page", "card", "loud"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for drawn in ("better-fill", "worse-fill", "same-fill", "violet", "teal", "focus"):
        assert contrast(colours[drawn], colours["card"]) >= 3, drawn
