"""Written runs come back bit for bit, in the order of trec_eval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uprank.configs.errors import UserError
from uprank.data.judged.trec import read_run, write_run
from uprank.data.trec_order import trec_order


def test_run_is_written_in_rank_order(tmp_path):
    path = tmp_path / "folder" / "run.txt"
    write_run(path, {"q2": {"a": 0.5, "é": 2, "b": 0.5}, "q1": {"a": -1.0}}, "mine")
    assert path.read_bytes().decode() == (
        "q2 Q0 é 1 2 mine\nq2 Q0 b 2 0.5 mine\nq2 Q0 a 3 0.5 mine\nq1 Q0 a 1 -1 mine\n"
    )


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=200, deadline=None)
def test_float32_scores_round_trip(tmp_path_factory, scores):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    run = {"q": {f"d{i}": score for i, score in enumerate(scores)}}
    write_run(path, run, "t")
    back = read_run(path)["q"]
    got = np.array([back[document] for document in run["q"]], dtype=np.float32)
    assert got.tobytes() == np.array(scores, dtype=np.float32).tobytes()


def test_float32_scores_of_every_magnitude_round_trip(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, size=20_000, dtype=np.uint32)
    scores = bits.view(np.float32)
    scores = scores[np.isfinite(scores)]
    write_run(tmp_path / "run.txt", {"q": {f"d{i}": score for i, score in enumerate(scores)}}, "t")
    back = read_run(tmp_path / "run.txt")["q"]
    got = np.array([back[f"d{i}"] for i in range(len(scores))], dtype=np.float32)
    assert got.tobytes() == scores.tobytes()


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=200, deadline=None)
def test_float64_scores_round_trip_as_the_float32_they_are_ranked_by(tmp_path_factory, score):
    path = tmp_path_factory.mktemp("run") / "run.txt"
    write_run(path, {"q": {"d": score}}, "t")
    with np.errstate(over="ignore"):
        assert np.float32(read_run(path)["q"]["d"]) == np.float32(score)


def test_what_cannot_be_written_is_listed_and_nothing_is_written(tmp_path):
    path = tmp_path / "run.txt"
    run = {"q 1": {"d": 1.0}, "q": {"": 1.0, "a\u00a0b": 1.0, "c": float("nan"), "e": float("inf")}}
    with pytest.raises(UserError) as caught:
        write_run(path, run, "my run")
    assert caught.value.problems == [
        f"{path}: tag 'my run' is empty or has white space",
        f"{path}: query id 'q 1' is empty or has white space",
        f"{path}: query 'q': document id '' is empty or has white space",
        f"{path}: query 'q': document id 'a\\xa0b' is empty or has white space",
        f"{path}: query 'q': the score of document 'c' is nan",
        f"{path}: query 'q': the score of document 'e' is inf",
    ]
    assert not path.exists()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=4), st.sampled_from([0.0, -0.0, 1.0, 1 + 1e-12])
    )
)
def test_order_is_score_then_id_descending_by_utf8_bytes(scores):
    documents = list(scores)
    got = [documents[i] for i in trec_order(documents, list(scores.values()))]
    assert got == sorted(documents, key=lambda d: (np.float32(scores[d]), d.encode()), reverse=True)
