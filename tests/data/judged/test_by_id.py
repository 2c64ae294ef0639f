"""Groups joined by ids equal those of dicts in memory, in any order of lines; every defect has its line."""

import gzip
import json
import logging
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from uprank.data.groups import Group
from uprank.data.judged import by_id
from uprank.data.judged import texts as corpus
from uprank.data.judged.by_id import Files
from uprank.data.problems import Problems
from uprank.data.store import cache
from uprank.data.store import group_by as merge
from uprank.data.store.group_store import GroupStore


def file(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def files(tmp_path, *, qrels=None, run=None, triples=None, depth=None, queries="q1\tone\nq2\ttwo\n", texts=9):
    """Write the files of a source; passages are `d1` to `d9`, with texts `text 1` to `text 9`."""
    texts = "".join(f"d{k}\ttext {k}\n" for k in range(1, texts + 1)) if isinstance(texts, int) else texts
    return Files(
        "it",
        file(tmp_path, "queries.tsv", queries),
        file(tmp_path, "corpus.tsv", texts),
        qrels and file(tmp_path, "qrels.txt", qrels),
        run and file(tmp_path, "run.txt", run),
        triples and file(tmp_path, "triples.tsv", triples),
        depth,
    )


def read(given, **options):
    problems = Problems()
    return list(by_id.join_groups(given, problems, **options)), problems


RUN = "q1 Q0 d3 1 5.0 t\nq1 Q0 d1 2 4.0 t\nq1 Q0 d4 3 1.0 t\nq1 Q0 d2 4 9.5 t\nq2 Q0 d5 9 1 t\n"


def test_positives_of_the_judgments_and_negatives_of_the_run(tmp_path):
    given = files(
        tmp_path, qrels="q2 0 d6 1\nq1 0 d1 3\nq1 0 d9 0\nq1 0 d4 -1\nq1 0 d8 1\nq1 0 d3 0\n", run=RUN
    )
    first = Group("two", ("text 6",), ("text 5",), f"{given.qrels}:1")
    second = Group(
        "one",
        ("text 1", "text 8"),
        ("text 2", "text 3", "text 4", "text 9"),  # by score; what is judged 0 behind, if not in the run
        f"{given.qrels}:2",
        grades=(3, 1),
    )
    assert read(given) == ([first, second], [])
    assert read(replace(given, depth=2))[0][1].negatives == ("text 2", "text 3", "text 9")
    # The depth counts what is looked at: the third of the run is the positive.
    assert read(replace(given, depth=3))[0][1].negatives == ("text 2", "text 3", "text 9")
    assert read(replace(given, depth=1))[0][1].negatives == ("text 2", "text 9", "text 3")


def test_scores_are_ordered_as_trec_eval_does(tmp_path):
    # Equal as float32: then the larger id comes first, by bytes.
    run = "q1 Q0 d2 1 1.00000001 t\nq1 Q0 d9 2 1.0 t\nq1 Q0 d3 3 1.00000002 t\nq1 Q0 d4 4 2e0 t\n"
    given = files(tmp_path, qrels="q1\t0\td1\t1\n", run=run)
    assert read(given)[0][0].negatives == ("text 4", "text 9", "text 3", "text 2")


@pytest.mark.parametrize("name", ["qrels.tsv", "qrels.tsv.gz"])
def test_a_beir_table_and_compressed_files(tmp_path, name):
    given = files(tmp_path, qrels="x", run=RUN)
    table = file(tmp_path, name, "query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    given = replace(
        given,
        qrels=table,
        run=file(tmp_path, "run.gz", RUN),
        corpus=file(tmp_path, "corpus.tsv.gz", given.corpus.read_text()),
        queries=file(tmp_path, "q.jsonl.gz", json.dumps({"_id": "q1", "text": "one"})),
    )
    assert read(given) == (
        [Group("one", ("text 1",), ("text 2", "text 3", "text 4"), f"{table}:2")],
        [],
    )


def test_triples_are_brought_together_by_query(tmp_path):
    triples = "q2\td1\td2\nq1\td3\td4\nq2\td1\td5\nq2\td6\td2\nq1\td3\td2\nq2\td1\td2\n"
    given = files(tmp_path, triples=triples)
    first = Group("two", ("text 1", "text 6"), ("text 2", "text 5"), f"{given.triples}:1")
    second = Group("one", ("text 3",), ("text 4", "text 2"), f"{given.triples}:2")
    assert read(given) == ([first, second], [])
    assert read(replace(given, depth=1))[0][0].negatives == ("text 2",)


def by_hand(qrels, run, texts, depth):
    """Return the expected groups of judgments and a run, from dicts."""
    expected = {}
    for query, judged in qrels.items():
        ranked = sorted(
            run.get(query, {}).items(), key=lambda row: (np.float32(row[1]), row[0]), reverse=True
        )
        top = [document for document, _ in ranked[:depth] if judged.get(document, 0) <= 0]
        top += [document for document, grade in judged.items() if grade == 0 and document not in top]
        positives = [document for document, grade in judged.items() if grade > 0]
        if positives and top:
            expected[query] = ([texts[d] for d in positives], [texts[d] for d in top])
    return expected


def test_the_same_as_in_memory_whatever_the_order_of_the_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(merge, "BUCKET", 4000)
    choice = random.Random(5)
    texts = {f"d{k}": f"text {k}" for k in range(300)}
    qrels = {
        f"q{k}": {f"d{d}": choice.randrange(-1, 4) for d in choice.sample(range(300), choice.randrange(1, 9))}
        for k in range(150)
    }
    run = {
        f"q{k}": {f"d{d}": choice.choice([0.5, 1.5, choice.random()]) for d in choice.sample(range(300), 30)}
        for k in range(20, 200)
    }
    run_lines = [f"{q} Q0 {d} 1 {s!r} t\n" for q, row in run.items() for d, s in row.items()]
    choice.shuffle(run_lines)
    qrels_lines = [f"{q} 0 {d} {g}\n" for q, row in qrels.items() for d, g in row.items()]
    queries = "".join(f"q{k}\tquery {k}\n" for k in range(150))
    given = files(
        tmp_path,
        qrels="".join(qrels_lines),
        run="".join(run_lines),
        queries=queries,
        texts="".join(f"{key}\t{text}\n" for key, text in texts.items()),
        depth=17,
    )
    groups, problems = read(given)
    expected = by_hand(qrels, run, texts, 17)
    assert problems == []
    assert 80 < len(expected) < 150
    assert [(g.query, list(g.positives), list(g.negatives)) for g in groups] == [
        (f"query {key[1:]}", *row) for key, row in expected.items()
    ]
    for group in groups:
        line = int(group.where.removeprefix(f"{given.qrels}:"))
        key = f"q{group.query.removeprefix('query ')}"
        assert qrels_lines[line - 1].startswith(f"{key} ")
        assert line == 1 or not qrels_lines[line - 2].startswith(f"{key} ")
        grades = tuple(grade for grade in qrels[key].values() if grade > 0)
        assert group.grades == (grades if set(grades) != {1} else ())


def test_every_defect_is_named_by_file_and_line_all_at_once(tmp_path):
    given = files(
        tmp_path,
        qrels="q1 0 d1 1\nq1 0 d77 1\nq3 0 d1 1\nq1 0 d1 2\nq1 0 d2 x\nq2 0 d2 1\n",
        run="q1 Q0 d3 1 1 t\nq1 Q0 d78 1 0.5 t\nq1 Q0 d3 1 1 t\nq1 d4\nq9 Q0 d79 1 1 t\nq2 Q0 d3 1 nan t\n",
        queries="q1\tone\nq2\ttwo\nq2\tagain\n",
        texts="d1\ttext 1\nd2\ttext 2\nd3\nd3\ttext 3\n",
    )
    found = read(given)[1]
    assert found == [
        f"{given.qrels}:2: document id 'd77' is not in corpus.tsv",
        f"{given.qrels}:3: query id 'q3' is not in queries.tsv",
        f"{given.qrels}:4: document 'd1' appears again in query 'q1'",
        f"{given.qrels}:5: relevance 'x' is not a whole number",
        f"{given.run}:2: document id 'd78' is not in corpus.tsv",
        f"{given.run}:3: document 'd3' appears again in query 'q1'",
        f"{given.run}:4: 2 columns, a run has 6",
        f"{given.run}:6: score 'nan' is not finite",
        f"{given.queries}:3: `_id` 'q2' stands twice in this file",
        f"{given.corpus}:3: 1 columns separated by tabs; must be two, id and text",
    ]
    assert read(given)[1] == found
    skipped = Problems()
    groups, problems = read(given, skipped=skipped)
    assert (problems, skipped) == ([], found)
    assert groups == [Group("one", ("text 1",), ("text 3",), f"{given.qrels}:1")]


def test_every_defect_of_triples(tmp_path):
    given = files(
        tmp_path,
        triples="q1\td1\td2\nq1\td3\td1\nq1\td2\td4\nq3\td1\td2\nq1 d1 d2\nq2\td77\td78\n"
        "q2\td1\t \n\nq1\td1\td1\n",
    )
    path = given.triples
    assert read(given)[1] == [
        f"{path}:2: document 'd1' is a positive and a negative of query 'q1', see line 1",
        f"{path}:3: document 'd2' is a positive and a negative of query 'q1', see line 1",
        f"{path}:4: query id 'q3' is not in queries.tsv",
        f"{path}:5: 1 columns separated by tabs, triples of ids have 3",
        f"{path}:6: document id 'd77' is not in corpus.tsv",
        f"{path}:6: document id 'd78' is not in corpus.tsv",
        f"{path}:7: an id is empty",
    ]


def test_a_contradiction_that_is_skipped_takes_no_place_of_the_depth(tmp_path):
    given = files(tmp_path, triples="q1\td1\td3\nq1\td3\td4\n", depth=1)
    skipped = Problems()
    expected = Group("one", ("text 1", "text 3"), ("text 4",), f"{given.triples}:1")
    assert read(given, skipped=skipped) == ([expected], [])
    assert len(skipped) == 1


def test_a_negative_with_the_text_of_a_positive(tmp_path):
    texts = "d1\tSame  text\nd2\tSAME text\nd3\tother\nd4\tSame  text\nd5\tother\n"
    run = "q1 Q0 d2 1 9 t\nq1 Q0 d3 2 8 t\nq1 Q0 d5 2 7 t\n"
    given = files(tmp_path, qrels="q1 0 d1 1\nq1 0 d4 2\n", run=run, texts=texts)
    # Of the run it is left out, and a text that has two ids is one passage.
    expected = Group("one", ("Same  text",), ("other",), f"{given.qrels}:1")
    assert read(given) == ([expected], [])
    given = files(tmp_path, qrels="q1 0 d1 1\nq1 0 d2 0\n", run=run, texts=texts)
    problems = read(given)[1]
    assert problems == [f"{given.qrels}:2: a positive is also a negative: document 'd2'"]
    assert problems.kinds == ["contradiction"]  # and from the cache
    given = files(tmp_path, triples="q1\td1\td2\nq1\td1\td3\n", texts=texts)
    assert read(given) == ([replace(expected, where=f"{given.triples}:1")], [])


def test_what_is_left_out_is_said(tmp_path, caplog):
    given = files(
        tmp_path, qrels="q1 0 d1 1\nq2 0 d2 0\nq3 0 d2 1\n", run=RUN, queries="q1\t1\nq2\t2\nq3\t3\n"
    )
    with caplog.at_level(logging.INFO, logger=by_id.__name__):
        assert len(read(given)[0]) == 1
    assert caplog.messages == [
        "it: 1 of 3 queries are left out: without a relevant passage",
        "it: 1 of 3 queries are left out: without a negative",
    ]
    caplog.clear()
    assert len(read(given, need_negatives=False)[0]) == 2
    assert caplog.messages == ["it: 1 of 3 queries are left out: without a relevant passage"]


def test_files_out_of_which_no_group_comes(tmp_path):
    run = "q7 Q0 d1 1 1 t\n"
    given = files(tmp_path, qrels="q1 0 d1 1\n", run=run)
    assert read(given) == ([], [f"{given.run}: has no negatives for any judged query of {given.qrels}"])
    assert read(replace(given, run=None)) == (
        [],
        [
            "it: no query has judged negatives; find hard ones first: "
            "uprank mine data.train=it output=train.jsonl"
        ],
    )
    given = files(tmp_path, qrels="q1 0 d1 0\nq2 0 d1 -1\n", run=run)
    assert read(given) == ([], ["it: no query has a relevant passage (a score above 0)"])
    for name in ("qrels", "run"):
        given = files(tmp_path, qrels="q1 0 d1 1\n", run=RUN)
        path = getattr(given, name)
        path.write_text("\n")
        assert read(given)[1] == [f"{path}:1: the file is empty"]
        path.unlink()
        assert read(given) == ([], [f"{path}: no such file"])


def test_a_damaged_run_does_not_hide_what_else_is_wrong(tmp_path):
    given = files(tmp_path, qrels="q1 0 d1 x\nq1 0 d1 1\n", texts="d1\tone\nd2\n")
    run = file(tmp_path, "run.gz", RUN)
    run.write_bytes(run.read_bytes()[:-9])
    found = read(replace(given, run=run), skipped=Problems())[1]
    assert len(found) == 1  # wrong lines are skipped, a damaged file is not
    assert found[0].startswith(f"{run}: not a whole gzip file")
    assert len(read(replace(given, run=run))[1]) == 3


def test_a_wrong_corpus_does_not_fill_the_memory_with_problems(tmp_path, monkeypatch):
    for module in (by_id, corpus):
        monkeypatch.setattr(module, "MOST_PROBLEMS", 10)
    qrels = "".join(f"q1 0 x{k} 1\n" for k in range(8)) + "".join(f"q{k} 0 d1 1\n" for k in range(2, 50))
    given = files(tmp_path, qrels=qrels)
    found = read(given)[1]
    assert 10 < len(found) < 15
    assert found[-1] == f"{given.qrels}: too many problems; the rest was not read"


def test_groups_are_made_once_for_the_content_and_the_options(tmp_path, monkeypatch):
    given = files(tmp_path, qrels="q1 0 d1 1\nq2 0 d2 1\nq2 0 d5 0\n", run=RUN, depth=3)
    made = by_id.join_groups(given, Problems())
    assert isinstance(made, GroupStore)
    variants = [replace(given, depth=1), replace(given, run=None)]
    counts = [len(read(variant)[0][-1].negatives) for variant in variants]
    everything = read(given, need_negatives=False)
    with monkeypatch.context() as patch:
        patch.setattr(by_id, "open_texts", None)
        assert list(by_id.join_groups(given, Problems())) == list(made)
        assert [len(read(variant)[0][-1].negatives) for variant in variants] == counts
        assert read(given, need_negatives=False) == everything
    for name in ("qrels", "run", "queries", "corpus"):
        path = getattr(given, name)
        path.write_text(path.read_text().replace("d1", "d6").replace("one", "new"))
        now = list(by_id.join_groups(given, Problems()))
        assert now != list(made) or name == "run"  # where d1, judged relevant, was none of the negatives
        made = now


def test_a_table_may_be_judgments_or_triples(tmp_path):
    given = files(tmp_path, triples="q1\t1\t2\n", texts="1\tfirst\n2\tsecond\n")
    where = f"{given.triples}:1"
    for _ in range(2):
        assert read(given, need_negatives=False)[0] == [Group("one", ("first",), ("second",), where)]
        judged = replace(given, qrels=given.triples, triples=None)
        assert read(judged, need_negatives=False)[0] == [Group("one", ("first",), (), where, grades=(2,))]


def test_memory_does_not_grow_with_the_triples(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "BLOCK", 1 << 16)
    lines = [f"q{k % 100}\td{k % 7}\td{k % 11 + 7}\n" for k in range(30_000)]
    given = files(
        tmp_path,
        triples="".join(lines),
        queries="".join(f"q{k}\tquery {k}\n" for k in range(100)),
        texts="".join(f"d{k}\ttext {k}\n" for k in range(20)),
    )
    read(replace(given, triples=file(tmp_path, "few", "q1\td1\td9\n")))  # what is imported is no matter here
    peaks, groups = [], []
    for bucket, depth in ((1 << 14, 11), (1 << 26, 12)):
        monkeypatch.setattr(merge, "BUCKET", bucket)
        tracemalloc.start()
        groups.append(read(replace(given, depth=depth)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert groups[0] == groups[1]
    assert (len(groups[0][0]), groups[0][1]) == (100, [])
    assert peaks[0] < peaks[1] / 2, peaks
