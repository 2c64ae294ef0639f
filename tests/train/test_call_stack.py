"""The walk from the command to the loss: ten functions of ours, named in order."""

import re
import sys
import threading
from pathlib import Path

import pytest
import uprank
from hydra.core.global_hydra import GlobalHydra
from uprank.__main__ import main
from uprank.train.losses import objective

ROOT = Path(uprank.__file__).parent
SPINE = ["main", "run", "_train", "train", "fit", "train_step", "backward"]
LOSS = ["_backward_batch", "group_losses", "listwise"]


def is_ours(file):
    """Tell a file of Uprank from a test, and from a library in an environment inside the checkout."""
    path = Path(file)
    if not path.is_relative_to(ROOT):
        return False
    return path.relative_to(ROOT).parts[0] in ("__main__.py", "configs", "data", "model", "eval", "train")


@pytest.fixture
def walk(monkeypatch, tmp_path, tiny_xlmr, jsonl):
    """`walk(threads)`: at each loss, the functions of Uprank on the stack, and if it is the main thread."""

    def record(threads):
        walks, listwise = [], objective.LOSSES["listwise"]

        def recorder(frame, event, _):
            if event != "call" or frame.f_code is not listwise.__code__:
                return
            names = []
            while frame:
                if is_ours(frame.f_code.co_filename):
                    names.append(frame.f_code.co_name)
                frame = frame.f_back
            walks.append((names[::-1], threading.current_thread() is threading.main_thread()))

        words = [f"model.path={tiny_xlmr}", f"data.train={jsonl[0]}", f"data.dev={jsonl[1]}"]
        words += ["model.device=cpu", f"threads={threads}", "train.max_steps=1", "train.queries_per_step=8"]
        words += ["train.tokens_per_batch=100", f"output={tmp_path / 'run'}"]
        monkeypatch.setattr(sys, "argv", ["uprank", "train", *words])
        GlobalHydra.instance().clear()
        threading.setprofile(recorder)
        sys.setprofile(recorder)
        try:
            main()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            GlobalHydra.instance().clear()
        return walks

    return record


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="an installed wheel is tested")
def test_the_page_on_architecture_lists_them():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| `(\w+)` \| `([\w/.]+)` \|", text, re.MULTILINE)
    assert [name for name, _ in rows] == SPINE + LOSS
    for name, file in rows:
        assert re.search(
            rf"^(def {name}\(|{name} = )", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE
        )


def test_ten_functions_lead_from_the_command_to_the_loss(walk):
    walks = walk(threads=1)
    assert len(walks) > 2
    for names, in_main in walks:
        assert (names, in_main) == (SPINE + LOSS, True)
    assert len(SPINE + LOSS) <= 10


def test_streams_compute_the_loss_in_threads_of_their_own(walk):
    walks = walk(threads=2)
    assert len(walks) > 2
    assert all(names == ["stream", "work", *LOSS] and not in_main for names, in_main in walks)
