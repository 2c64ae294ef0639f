"""The run files of a report, read back under the names that they were written with."""

import json

import pytest
from uprank.data.problems import Problems
from uprank.data.read import read_judged
from uprank.eval.evaluate import Entry, ReportOptions, make_report
from uprank.eval.measures.measure import parse_measures
from uprank.eval.report.write import write_report
from uprank.eval.retrieval.candidates import find_candidates
from uprank.eval.scoring import Scored
from uprank.publish.evidence.dev_scores import read_scores
from uprank.publish.evidence.source import Evidence


@pytest.mark.parametrize("names", [("a/b", "a_b"), ("a_b", "a/b", "a b")])
def test_systems_with_similar_names_have_a_run_file_each(tmp_path, names):
    data = tmp_path / "dev.jsonl"
    rows = [{"query": f"q {k}", "pos": [f"p {k}"], "neg": [f"n {k} {n}" for n in range(4)]} for k in range(9)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    collection = read_judged(str(data), Problems(), split="dev")
    candidates = find_candidates(collection, "groups", 30)
    runs = {
        name: {
            q: {d: float((7 * n + place) % 5) for n, d in enumerate(row)} for q, row in candidates.run.items()
        }
        for place, name in enumerate(names)
    }
    entries = [Entry(name, Scored(run, 45, 0, 1.0), name, "sha256:x", "fp32") for name, run in runs.items()]
    options = ReportOptions(parse_measures(["nDCG@10"]), baseline=names[0], seed=0, command="")
    report = make_report(collection, candidates, entries, options)
    write_report(report, tmp_path / "r", title="t", runs=runs, collection=collection)
    assert read_scores(Evidence(tmp_path / "r", report, "dev")).runs == runs
