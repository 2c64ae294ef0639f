"""Every command of the README, docs/mining.md and docs/evaluating.md runs as written, on small inputs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
ROOMS = ("configs", "data", "model", "eval", "train", "publish")
PAGES = (README, ROOT / "docs" / "mining.md", ROOT / "docs" / "evaluating.md")
# The tests of the wheel have no pages.
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES) if README.is_file() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="the README is not part of the wheel")


def commands(start: str) -> list[str]:
    """Return the indented lines that contain a command, with continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", TEXT)
    return [
        line.strip()
        for line in joined.splitlines()
        if line.startswith("    ") and start in line.split("#")[0]
    ]


@pytest.mark.slow
def test_own_data_in_five_minutes(tmp_path, beir, tiny_xlmr, bi_encoder):
    """Run all commands in the order of the pages, as typed by a reader."""
    shutil.copytree(beir, tmp_path / "my-data")
    shutil.copytree(beir, tmp_path / "other-data")
    (tmp_path / "qrels.txt").write_text("q1 0 a 1\nq1 0 b 0\nq2 0 c 1\n")
    for name in ("old", "new"):
        (tmp_path / f"{name}.run").write_text("q1 Q0 a 1 2.0 x\nq1 Q0 b 2 1.0 x\nq2 Q0 c 1 0.5 x\n")
    small = {
        "mine": "negatives=4",
        "check": "model.query_tokens=20",
        "train": f"model.path={tiny_xlmr} model.query_tokens=20 train.max_steps=2 train.queries_per_step=4",
        "eval": "model.query_tokens=20 depth=10",
        "publish": "force=true",  # two steps of a random model bring no gain
        "verify": "",
    }
    seen = []
    for line in commands("uprank "):
        name = line.split()[1]
        if not line.startswith("uprank ") or name not in small:
            continue
        line = line.replace("BAAI/bge-reranker-base", str(tiny_xlmr))
        line = line.replace("BAAI/bge-small-en-v1.5", str(bi_encoder()))
        words = [*shlex.split(line, comments=True)[1:], *small[name].split()]
        done = subprocess.run(
            [sys.executable, "-m", "uprank", *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, (line, done.stdout[-1500:], done.stderr[-3000:])
        seen.append(name)
    assert seen == ["mine", "check", "train", "eval", "publish", "verify", *["mine"] * 2, *["eval"] * 2]
    card = (tmp_path / "my-reranker" / "README.md").read_text(encoding="utf-8")
    assert "runs/first-test" in card or "first-test" in card or "test" in card

    pipe = next(line for line in commands("uprank score") if line.startswith("echo"))
    done = subprocess.run(
        ["bash", "-c", pipe.replace("uprank score", f"{sys.executable} -m uprank score")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert '"ranking": [{"index": ' in done.stdout

    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL).group(1)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_file_that_architecture_and_contributing_name_exists():
    pages = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    files = set(re.findall(r"`((?:configs|data|model|eval|train|publish)/[\w/]+\.(?:py|yaml))", text))
    files -= {file for file in files if "NAME" in file}
    assert len(files) > 25
    assert [file for file in sorted(files) if not (ROOT / file).is_file()] == []
    pairs = re.findall(r"`([a-z_]+|[A-Z]\w+)`(?: of)? \(`((?:\w+/)+\w+\.py)`\)", text)
    assert len(pairs) > 15
    for name, file in pairs:
        assert re.search(rf"\b(def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8")), (name, file)


def test_the_readme_is_short_and_names_every_folder():
    text = README.read_text(encoding="utf-8")
    assert text.count("\n") < 120
    tree = text[text.index("## The tree") :]
    faces = [file.parent for room in ROOMS for file in (ROOT / room).glob("*/__init__.py")]
    assert len(faces) > 30
    missing = [face.name for face in faces if not re.search(rf" {face.name}/", tree)]
    assert missing == []


def test_nothing_is_left_to_fill_in():
    for path in (README, *(ROOT / "docs").glob("*.md")):
        assert "PLACEHOLDER" not in path.read_text(encoding="utf-8"), path


def test_every_command_the_readme_names_exists():
    from uprank.__main__ import COMMANDS

    lines = [line.rpartition("| ")[2] for line in commands("uprank ")]
    named = {line.split()[1] for line in lines if line.startswith("uprank ")}
    assert {"mine", "check", "train", "eval", "publish", "score"} <= named
    assert named <= COMMANDS.keys()


def test_make_has_the_verbs_that_the_readme_shows():
    verbs = {line.split()[1] for line in commands("make ")}
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert verbs == {"quickstart", "test"} <= rules


def test_every_path_and_setting_the_readme_names_exists():
    from uprank.configs.help import known_keys
    from uprank.configs.schema_eval import EvalCommand
    from uprank.configs.schema_publish import PublishCommand
    from uprank.configs.schema_train import TrainCommand

    settings = {key for schema in (TrainCommand, EvalCommand, PublishCommand) for key in known_keys(schema)}
    for key in re.findall(r"`((?:train|optim|model|push|data)\.[a-z_.]+)", TEXT):
        assert key in settings, key
    for path in re.findall(r"(?:configs|data|docs|benchmarks)/[\w./-]+\.(?:yaml|md|py)", TEXT):
        assert (ROOT / path).is_file(), path
