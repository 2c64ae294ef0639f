import html
import math
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from uprank.eval.html import QueryExample, headline_system, moved_queries, render, training_curves
from uprank.eval.report import Comparison, Estimate, Report, System

HOSTILE = "</title><script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"
VOID = {"meta", "link", "br", "hr", "img", "input"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--dump-dom", "--v=0",
    "--enable-logging=stderr",
]  # fmt: skip


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
    assert loads == [("link", "href", "data:,")]
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
    assert "Provenance" in page.text
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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_chromium_opens_and_sorts_it_without_a_word_in_the_console(tmp_path):
    page = tmp_path / "report.html"
    # The page sorts itself by its second column, as a reader would by pressing the button.
    press = "<script>document.querySelectorAll('table[data-sortable] button')[1].click()</script>"
    page.write_text(full().replace("</body>", press + "</body>"), encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert 'data-ready="true"' in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr
    table = done.stdout[done.stdout.index("<table") : done.stdout.index("</table>")]
    assert 'aria-sort="descending"' in table
    assert re.findall(r'<th scope="row">(\w+)</th>', table) == ["tuned", "base", "bm25"]
