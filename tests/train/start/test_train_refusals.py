"""What `uprank train` refuses before anything is written, and that it overwrites nothing."""

import json
import shutil

import pytest
from uprank.configs.errors import UserError
from uprank.eval.processes import Processes
from uprank.train.run import train
from uprank.train.run_folder.manifest import lock


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__group_size": 1}, "to leave room for a negative"),
        ({"optim__learning_rate": 0.0, "train__eval_every": 0}, "2"),
        ({"data__train": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
        ({"model__path": "no/such/model/here"}, "no such folder"),
        ({"dev__measures": ["nDGC@10"]}, "did you mean 'nDCG'"),
        ({"dev__candidates": "bm25"}, "no corpus to search"),
        ({"model__precision": "fp8"}, "allowed are auto, fp32, bf16"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    settings, tiny_xlmr, jsonl, tmp_path, changes, message
):
    with pytest.raises(UserError) as caught:
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", **changes))
    assert message in (str(len(caught.value.problems)) if message == "2" else str(caught.value))
    assert not (tmp_path / "bad").exists()


def test_a_dev_query_that_is_trained_on_is_refused(settings, tiny_xlmr, jsonl, tmp_path):
    with pytest.raises(UserError, match="query is also in"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", data__dev=str(jsonl[0])))


def test_dev_rows_without_negatives_choose_nothing_and_are_refused(settings, tiny_xlmr, jsonl, tmp_path):
    (tmp_path / "dev.jsonl").write_text('{"query": "q", "pos": ["p"]}\n')
    with pytest.raises(UserError, match="every dev candidate is relevant"):
        train(settings(tiny_xlmr, jsonl, tmp_path / "bad", data__dev=str(tmp_path / "dev.jsonl")))


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(settings, tiny_xlmr, jsonl, tmp_path, rate):
    with pytest.raises(UserError) as caught:
        train(
            settings(
                tiny_xlmr,
                jsonl,
                tmp_path / "n",
                optim__learning_rate=rate,
                train__epochs=rate,
                loss__temperature=rate,
            )
        )
    assert len(caught.value.problems) == 3


def test_what_is_in_the_output_folder_is_never_overwritten(settings, run, tiny_xlmr, jsonl, tmp_path):
    with pytest.raises(UserError, match="holds a finished run"):
        train(settings(tiny_xlmr, jsonl, run))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is not an Uprank run"):
        train(settings(tiny_xlmr, jsonl, tmp_path))
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run, unfinished)
    manifest = json.loads((run / "manifest.json").read_text())
    (unfinished / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    with pytest.raises(UserError, match=r"optim\.learning_rate=0\.1 differs"):
        train(settings(tiny_xlmr, jsonl, unfinished, optim__learning_rate=0.1))
    changed = tmp_path / "train.jsonl"
    changed.write_text("".join(jsonl[0].read_text().splitlines(keepends=True)[:-1]))
    config = (unfinished / "config.yaml").read_text().replace(str(jsonl[0]), str(changed))
    (unfinished / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=r"data\.train\b.* has changed"):
        train(settings(tiny_xlmr, (changed, jsonl[1]), unfinished))


def test_two_starts_at_once_do_not_share_a_folder(settings, run, tiny_xlmr, jsonl, tmp_path):
    other = pytest.raises(UserError, match="another process is training")
    with lock(tmp_path / "one", Processes()), other:
        train(settings(tiny_xlmr, jsonl, tmp_path / "one"))
    train(settings(tiny_xlmr, jsonl, tmp_path / "one", train__max_steps=1))
