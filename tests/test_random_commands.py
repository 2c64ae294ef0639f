"""Random command lines, wrong in every way: a sentence and an exit code, never a traceback.

The short form runs with the other tests. `UPRANK_RANDOM=2000 pytest tests/test_random_commands.py` runs more.
"""

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import sys
import traceback

import pytest
from uprank.__main__ import COMMANDS
from uprank.configs import schema_data, schema_eval, schema_publish, schema_train
from uprank.configs.help import known_keys

COUNT = int(os.environ.get("UPRANK_RANDOM", "60"))
PART = 20  # command lines a test
SCHEMAS = {
    "check": schema_data.CheckCommand,
    "split": schema_data.SplitCommand,
    "mine": schema_data.MineCommand,
    "train": schema_train.TrainCommand,
    "runs": schema_train.RunsCommand,
    "eval": schema_eval.EvalCommand,
    "publish": schema_publish.PublishCommand,
    "verify": schema_publish.VerifyCommand,
    "score": schema_eval.ScoreCommand,
}
VALUES = [
    *(
        "",
        "null",
        "true",
        "0",
        "-1",
        "1e9",
        "0.5",
        "nan",
        "x",
        "[]",
        "[1,x]",
        "{}",
        "{a: 1}",
        "[{a: [}]",
        "'",
        '"',
    ),
    *(
        "训练",
        "~",
        "~/x",
        "/",
        "/dev/null",
        ".",
        "..",
        "a,b",
        "$x",
        "${seed}",
        "${oc.env:NONE}",
        "!!python/x",
        "999999",
    ),
]
JSON = [None, True, -1, 1.5, "x", [], {}, [None], {"a": None}, "\ud800", 10**30]


@pytest.fixture(scope="module")
def things(tmp_path_factory, tiny_bert, tiny_encoder, jsonl, beir):
    """Folder of what a command can be given: sound, damaged and foreign."""
    place = tmp_path_factory.mktemp("things")
    for name, source in ("bert", tiny_bert), ("encoder", tiny_encoder), ("beir", beir):
        shutil.copytree(source, place / name)
    for path, name in zip(jsonl, ("train.jsonl", "dev.jsonl"), strict=True):
        shutil.copy(path, place / name)
    (place / "empty").mkdir()
    (place / "void.jsonl").touch()
    (place / "table.csv").write_text("query,positive,negative\na b,c d,e f\n")
    (place / "mine.run").write_text("q1 Q0 d1 1 1.0 t\n")
    make_results(place)
    return place


def make_results(place):
    """A finished run and a stopped one, an evaluation of its model, and its publication."""
    model, fast = f"model.path={place / 'bert'}", ["dev.max_queries=4", "train.queries_per_step=2"]
    data = [f"data.train={place / 'train.jsonl'}", f"data.dev={place / 'dev.jsonl'}", "threads=1"]
    steps = ["train.max_steps=2", "train.eval_every=1"]
    best = f"model.path={place / 'run' / 'best'}"
    for name, words in (
        ("train", [model, *data, *fast, *steps, f"output={place / 'run'}"]),
        ("eval", [best, f"data.test={place / 'beir'}", "depth=5", f"output={place / 'report'}"]),
        (
            "publish",
            [f"run={place / 'run'}", "force=true", "onnx.graphs=[]", f"output={place / 'published'}"],
        ),
    ):
        wrong = tried(name, words)
        assert not wrong, wrong
    assert (place / "published" / "uprank.json").is_file()
    shutil.copytree(place / "run", place / "stopped")
    manifest = json.loads((place / "stopped" / "manifest.json").read_text())
    (place / "stopped" / "manifest.json").write_text(json.dumps(manifest | {"finished": None}))
    shutil.rmtree(place / "stopped" / "checkpoints" / "step-000002")


def damaged(generator, source, target):
    """Copy a file or a folder with one file cut, flipped or, if JSON, with one value of another kind."""
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    files = sorted(file for file in ([target] if target.is_file() else target.rglob("*")) if file.is_file())
    if not files:
        return target
    file = generator.choice(files)
    data = file.read_bytes()
    kind = generator.choice(("cut", "flip", "json", "gone", "zero"))
    if kind == "json" and file.suffix == ".json":
        with contextlib.suppress(ValueError):
            values = json.loads(data)
            if isinstance(values, dict) and values:
                values[generator.choice(sorted(values))] = generator.choice(JSON)
            else:
                values = generator.choice(JSON)
            file.write_text(json.dumps(values))
    elif kind == "flip" and data:
        place = generator.randrange(len(data))
        file.write_bytes(
            data[:place] + bytes([data[place] ^ 1 << generator.randrange(8)]) + data[place + 1 :]
        )
    elif kind == "gone":
        file.unlink()
    else:
        file.write_bytes(b"" if kind == "zero" else data[: generator.randrange(len(data) + 1)])
    return target


def line(generator, things, place):
    """Return a command and its settings: mostly those it needs, then some that are wrong."""
    name = generator.choice(sorted(SCHEMAS))
    given = sorted(things.iterdir())

    def thing(*fitting):
        source = things / generator.choice(fitting) if generator.random() < 0.7 else generator.choice(given)
        if generator.random() < 0.4:
            return damaged(generator, source, place / f"damaged-{generator.randrange(10**6)}{source.suffix}")
        return source

    rows, judged = ("train.jsonl", "table.csv"), ("beir", "dev.jsonl")
    model = ("bert", "encoder", "published", "run/best")
    continued = [
        *(f"data.train={things / 'train.jsonl'}", f"data.dev={things / 'dev.jsonl'}"),
        *(f"model.path={things / 'bert'}", "train.max_steps=2", "train.eval_every=1"),
        *("dev.max_queries=4", "train.queries_per_step=2"),
    ]
    needed = {
        "check": lambda: [f"data.train={thing(*rows)}", f"model.path={thing(*model)}", "noise_queries=2"],
        "split": lambda: [f"data={thing(*rows, 'beir')}", f"output={place / 'split'}"],
        "mine": lambda: [f"data.train={thing('beir')}", f"output={place / 'mined.jsonl'}"],
        "train": lambda: (
            [*continued, f"output={damaged(generator, things / 'stopped', place / 'run')}"]
            if generator.random() < 0.5
            else [
                *(f"data.train={thing(*rows)}", f"data.dev={thing(*judged)}", f"model.path={thing(*model)}"),
                *(
                    f"output={place / 'run'}",
                    "train.max_steps=1",
                    "dev.max_queries=2",
                    "train.queries_per_step=2",
                ),
            ]
        ),
        "runs": lambda: [f"folder={thing('run', 'stopped', 'empty')}"],
        "eval": lambda: [
            *(f"data.test={thing(*judged)}", f"model.path={thing(*model)}", f"output={place / 'eval'}"),
            *("depth=3", "max_queries=3"),
        ],
        "publish": lambda: [
            *(
                [f"run={thing('run', 'stopped')}"]
                if generator.random() < 0.6
                else [f"model.path={thing('run/best', 'published')}", f"report={thing('report')}"]
            ),
            *(f"output={place / 'published'}", "onnx.graphs=[]", "force=true"),
            *([f"reports=[{thing('report')}]"] if generator.random() < 0.3 else []),
        ],
        "verify": lambda: [f"folder={thing('published', 'bert')}"],
        "score": lambda: [
            f"model.path={thing(*model)}",
            f"input={thing('train.jsonl')}",
            f"output={place / 's'}",
        ],
    }
    words = ["threads=1", *needed[name]()] if "threads" in known_keys(SCHEMAS[name]) else needed[name]()
    keys = sorted(known_keys(SCHEMAS[name]))
    for _ in range(generator.choice((0, 0, 1, 1, 2))):
        key = generator.choice(
            (generator.choice(keys), generator.choice(keys), "nonsense", "train", "+a", "~a", "-m")
        )
        words.append(f"{key}={generator.choice(VALUES)}")
    return name, words


def tried(name, words):
    """Run a command; return its traceback, or nothing if it ended as it should."""
    sys.argv = [f"uprank {name}", *words]
    out, error = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            importlib.import_module(COMMANDS[name][0]).main()
    except SystemExit as end:
        wrong = "" if end.code in (None, 0, 1, 2) else f"exit code {end.code}"
        return wrong or ("Traceback in its output" if "Traceback" in error.getvalue() else "")
    except BaseException:
        return traceback.format_exc(limit=-3)
    return ""


@pytest.mark.parametrize("part", range((COUNT + PART - 1) // PART))
def test_no_command_line_ends_in_a_traceback(things, tmp_path, monkeypatch, part):
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = []
    for number in range(part * PART, (part + 1) * PART):
        generator, place = random.Random(number), tmp_path / str(number)
        place.mkdir()
        name, words = line(generator, things, place)
        if wrong := tried(name, words):
            found.append(f"{number}: uprank {name} {' '.join(map(repr, words))}\n{wrong}")
    assert not found, "\n\n".join(found)
