"""The pages in headless Chromium: clicks, keys, a phone, both schemes, and a silent console."""

import random

import pytest
from uprank.data.groups import Collection
from uprank.eval.evaluate import Entry, ReportOptions, first_stage_entry, make_report
from uprank.eval.measures.measure import parse_measures
from uprank.eval.report.page import write_summary_page
from uprank.eval.report.summary import make_summary
from uprank.eval.report.write import write_report
from uprank.eval.retrieval.candidates import Candidates
from uprank.eval.scoring import Scored

QUERIES, DEPTH = 60, 30
HOSTILE = (
    "</summary><script>console.log('broken out')</script><img src='http://localhost:9/x' onerror=alert(1)>"
)


def make(name, gain, seed):
    """A collection with hostile and endless texts, a weak first stage and two made-up models."""
    generator = random.Random(seed)
    queries = {f"q{i}": f"{HOSTILE} number {i} {'endless' * 30}" for i in range(QUERIES)}
    passages = {f"d{i}": f"{HOSTILE} {'passage' * 40}" for i in range(50)}
    qrels = {
        q: {d: generator.choice([0, 0, 1]) for d in generator.sample(list(passages), 8)} for q in queries
    }

    def scores(strength):
        return {
            q: {d: strength * qrels[q].get(d, 0) + generator.gauss(0, 1) for d in row}
            for q, row in pools.items()
        }

    pools = {q: generator.sample(list(passages), DEPTH) for q in queries}
    collection = Collection(name, queries, passages, qrels, {})
    candidates = Candidates("bm25", DEPTH, scores(0.5), "bm25", added=3)
    entries = [first_stage_entry(candidates)]
    for model, strength in (("base", 1.5), ("tuned", 1.5 + gain)):
        scored = Scored(scores(strength), QUERIES * DEPTH, 7, 2.0)
        path = f"models/{model * 12}"
        entries.append(Entry(model, scored, path, "sha256:" + "f" * 64, "fp32", (64, 512)))
    measures = parse_measures(["nDCG@10", "MRR@10", "MAP"])
    command = f"uprank eval {'data.test=somewhere ' * 6}{'x' * 200}"
    options = ReportOptions(measures, baseline="base", seed=1, command=command)
    report = make_report(collection, candidates, entries, options)
    return collection, report, {entry.name: entry.scored.run for entry in entries}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page of one collection and the summary of two."""
    folder = tmp_path_factory.mktemp("pages")
    reports = {}
    for seed, (name, gain) in enumerate({"own": 2.0, "web": -1.0}.items()):
        collection, reports[name], runs = make(name, gain, seed)
        write_report(reports[name], folder / name, title=f"t {HOSTILE}", runs=runs, collection=collection)
    write_summary_page(make_summary(reports, seed=0), reports, folder)
    return {"report": folder / "own" / "report.html", "summary": folder / "report.html"}


@pytest.mark.parametrize("page", ["report", "summary"])
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_in_silence_asks_for_nothing_and_fits_the_screen(browser, pages, page, width, scheme):
    browser.open(pages[page], width=width, scheme=scheme)
    browser.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    overflow = browser.run(
        "(() => { const e = document.documentElement; return [e.scrollWidth, e.clientWidth, innerWidth]; })()"
    )
    assert overflow[0] <= overflow[1] <= overflow[2] <= width
    assert browser.messages == []
    assert [url for url in browser.requests if url != "data:,"] == [pages[page].as_uri()]
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, ground[4:-1].split(",")))
    assert (brightness > 600) == (scheme == "light")


def test_on_a_phone_wide_tables_scroll_in_themselves_and_charts_stay_legible(browser, pages):
    browser.open(pages["report"], width=360)
    assert browser.run(
        "[...document.querySelectorAll('.scroll')].some((e) => e.scrollWidth > e.clientWidth + 20)"
    )
    smallest = browser.run(
        "Math.min(...[...document.querySelectorAll('svg text')].map((text) =>"
        " parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a"
        " * (text.transform.baseVal.numberOfItems ? Infinity : 1)).filter((size) => size > 0))"
    )
    assert smallest >= 10  # pixels


def column(browser, place):
    """Numbers of a column of the first table, the header's aria-sort, and the names of its rows."""
    rows = "[...document.querySelector('table').tBodies[0].rows]"
    values = browser.run(f"{rows}.map((row) => Number(row.cells[{place}].dataset.value))")
    sort = browser.run(f"document.querySelectorAll('thead th')[{place}].getAttribute('aria-sort')")
    return values, sort, browser.run(f"{rows}.map((row) => row.cells[0].textContent.trim().split(' ')[0])")


@pytest.mark.parametrize("how", ["click", "Enter", " "])
def test_a_table_is_sorted_by_click_and_by_keyboard(browser, pages, how):
    browser.open(pages["report"])
    unsorted, sort, names = column(browser, 1)
    assert (names, sort) == (["bm25", "base", "tuned"], None)
    button = "thead th:nth-child(2) button"
    if how != "click":
        browser.run(f"document.querySelector('{button}').focus()")
    for direction in ("descending", "ascending"):
        if how == "click":
            browser.click(button)
        else:
            browser.press(how)
        values, sort, names = column(browser, 1)
        assert sort == direction
        assert values == sorted(unsorted, reverse=direction == "descending")
    assert names == ["bm25", "base", "tuned"]
    browser.click("thead th:nth-child(1) button")
    assert column(browser, 0)[1:] == ("ascending", ["base", "bm25", "tuned"])
    assert column(browser, 1)[1] is None  # one column at a time
    assert browser.messages == []


def test_in_the_summary_the_macro_average_stays_last(browser, pages):
    browser.open(pages["summary"])
    table = "document.querySelector('#measure-1').parentNode.querySelector('table')"
    browser.run(f"{table}.tHead.rows[0].cells[3].querySelector('button').click()")
    names = browser.run(f"[...{table}.rows].map((row) => row.cells[0].innerText.split(/\\s/)[0])")
    assert names == ["Collection", "own", "web", "macro"]
    browser.run(f"{table}.tHead.rows[0].cells[3].querySelector('button').click()")
    names = browser.run(f"[...{table}.rows].map((row) => row.cells[0].innerText.split(/\\s/)[0])")
    assert names == ["Collection", "web", "own", "macro"]
    browser.click("#measure-1 ~ .scroll tbody a")
    browser.wait_for("location.pathname.endsWith('web/report.html')")


def test_the_values_of_a_chart_are_read_by_keyboard_and_by_pointing(browser, pages):
    browser.open(pages["report"])
    plot = "document.querySelector('.plot')"
    shown = f"{plot}.parentNode.querySelector('.readout').textContent"
    browser.run(f"{plot}.focus()")
    assert browser.run(shown) == ""
    browser.press("ArrowRight")
    first = browser.run(shown)
    browser.press("ArrowRight")
    second = browser.run(shown)
    assert ": q" in first
    assert ": q" in second
    assert first != second
    browser.press("End")
    assert browser.run(shown) not in (first, second)
    assert browser.run(f"{plot}.querySelectorAll('.on').length") == 1
    title = browser.run(f"{plot}.querySelectorAll('circle')[3].querySelector('title').textContent")
    browser.click(".plot circle:nth-of-type(4)")
    assert browser.run(shown) == title
    assert browser.messages == []


def test_the_focus_is_seen_and_goes_through_all_that_can_be_used(browser, pages):
    browser.open(pages["report"])
    seen = []
    for _ in range(12):
        browser.press("Tab")
        seen.append(browser.run("document.activeElement.className || document.activeElement.tagName"))
        style = browser.run("(({outlineStyle, outlineWidth}) => [outlineStyle, outlineWidth])"
                            "(getComputedStyle(document.activeElement))")  # fmt: skip
        assert style == ["solid", "2px"], seen
    assert {"A", "scroll", "BUTTON"} <= set(seen)
