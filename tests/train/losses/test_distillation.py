"""From a teacher to a student by two commands; `uprank score` on groups that are there already."""

import json
import sys

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from uprank.data.problems import Problems
from uprank.data.rows.jsonl import read_jsonl
from uprank.model import __main__ as score_command
from uprank.model.reranker import Reranker
from uprank.train import __main__ as train_command
from uprank.train.mine import command as mine_command
from uprank.train.run_folder.metrics import read_metrics

MAINS = {"score": score_command.main, "train": train_command.main, "mine": mine_command.main}


@pytest.fixture
def uprank(monkeypatch, capsys, tmp_path):
    """Run a command in its process: (exit code, stderr)."""
    monkeypatch.chdir(tmp_path)

    def uprank(command, *arguments):
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [f"uprank {command}", *map(str, arguments)])
        code = 0
        try:
            MAINS[command]()
        except SystemExit as error:
            code = error.code
        return code, capsys.readouterr().err

    yield uprank
    GlobalHydra.instance().clear()


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_mine_with_a_teacher_then_train_on_its_scores(uprank, beir, tiny_bert, tiny_xlmr, tmp_path, loss):
    words = [f"data.train={beir}", "output=scored.jsonl", f"teacher.path={tiny_bert}", "teacher.scores=true"]
    code, err = uprank("mine", *words, "teacher.margin=-100", "negatives=4", "threads=1")
    assert code == 0, err
    words = [f"model.path={tiny_xlmr}", f"loss={loss}", "data.train=scored.jsonl", f"data.dev={beir}"]
    words += ["model.attention_dropout=0", "model.hidden_dropout=0", "train.queries_per_step=12"]
    words += ["train.epochs=12", "train.eval_every=12", "optim.learning_rate=3e-3", "model.device=cpu"]
    code, err = uprank("train", *words, "threads=1", "output=run")
    assert code == 0, err
    losses = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    # The student came nearer to what the teacher says of each group, whose scores may be shifted.
    groups = read_jsonl(tmp_path / "scored.jsonl", [])

    def distance(path):
        student = Reranker.load(path)
        gaps = []
        for group in groups:
            own = student.score((group.query, text) for text in group.texts[1:])
            gaps.append(np.ptp(own - np.asarray(group.scores)))
        return np.mean(gaps)

    assert distance(tmp_path / "run" / "last") < 0.9 * distance(tiny_xlmr)


def test_groups_get_the_scores_of_a_teacher(uprank, jsonl, tiny_bert, tmp_path):
    rows = lines(jsonl[0])
    rows[0] |= {"id": "kept", "query_prompt": "mouse ", "pos_scores": [9.0] * 3}
    rows[1].pop("neg")
    (tmp_path / "groups.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, err = uprank("score", f"model.path={tiny_bert}", "input=groups.jsonl", "output=new/scored.jsonl")
    assert (code, err) == (0, "new/scored.jsonl: 24 rows\n")
    reranker = Reranker.load(tiny_bert)
    scored = lines(tmp_path / "new" / "scored.jsonl")
    for row, found in zip(rows, scored, strict=True):
        query = row.get("query_prompt", "") + row["query"]
        for key in ("pos", "neg"):
            expected = reranker.score((query, text) for text in row.get(key, []))
            assert found[f"{key}_scores"] == pytest.approx(expected.tolist(), abs=1e-5)
        assert {**found, "pos_scores": 0, "neg_scores": 0} == {**row, "pos_scores": 0, "neg_scores": 0}
    problems = Problems()
    assert len(read_jsonl(tmp_path / "new" / "scored.jsonl", problems, need_negatives=False)) == 24
    assert problems == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scored.jsonl"]
    code, err = uprank("score", f"model.path={tiny_bert}", "input=groups.jsonl", "output=new/scored.jsonl")
    assert (code, "exists; nothing was overwritten" in err) == (2, True)


def test_a_killed_start_is_continued_to_the_same_bytes(uprank, jsonl, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(score_command, "ROWS", 5)
    words = [f"model.path={tiny_bert}", f"input={jsonl[0]}", "threads=1"]
    assert uprank("score", *words, "output=whole.jsonl")[0] == 0
    blocks, real = [], Reranker.score

    def score(self, pairs, **named):
        if len(blocks) == 3:
            raise KeyboardInterrupt
        blocks.append(len(pairs))
        return real(self, pairs, **named)

    with monkeypatch.context() as killed:
        killed.setattr(Reranker, "score", score)
        assert uprank("score", *words, "output=out.jsonl")[0] == 130
    assert not (tmp_path / "out.jsonl").exists()
    (part,) = tmp_path.glob(".out.jsonl.*.part")
    with part.open("ab") as stream:
        stream.write(b'{"query": "half a li')
    counted = []
    monkeypatch.setattr(
        Reranker, "score", lambda self, pairs: counted.append(len(pairs)) or real(self, pairs)
    )
    assert uprank("score", *words, "output=out.jsonl")[0] == 0
    assert len(counted) == 2  # 24 rows in blocks of 5, of which 3 were there
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "whole.jsonl"]


def test_another_input_does_not_continue_what_was_left(uprank, jsonl, tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr(score_command, "ROWS", 5)
    real = Reranker.score
    with monkeypatch.context() as killed:

        def score(self, pairs, done=[]):  # noqa: B006
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return real(self, pairs)

        killed.setattr(Reranker, "score", score)
        assert uprank("score", f"model.path={tiny_bert}", f"input={jsonl[0]}", "output=out.jsonl")[0] == 130
    assert uprank("score", f"model.path={tiny_bert}", f"input={jsonl[1]}", "output=out.jsonl")[0] == 0
    assert [row["query"] for row in lines(tmp_path / "out.jsonl")] == [
        row["query"] for row in lines(jsonl[1])
    ]


def test_what_cannot_be_scored_into_a_file_is_refused(uprank, tiny_bert, tmp_path):
    (tmp_path / "wrong.jsonl").write_text(
        '{"query": "q", "pos": "no list"}\n{"query": "q", "pos": [], "neg": [1]}\n'
    )
    code, err = uprank("score", f"model.path={tiny_bert}", "input=wrong.jsonl", "output=out.jsonl")
    assert (code, err.count("a row is")) == (2, 2)
    assert not list(tmp_path.glob("*out*"))
    code, err = uprank("score", f"model.path={tiny_bert}", "output=out.jsonl")
    assert (code, "give a file as input" in err) == (2, True)
