"""The layout of the house: rooms in one order, sub-packages with faces, no circles, no crowded folder."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import uprank

ROOT = Path(uprank.__file__).parent  # the checkout, or the folder that a wheel was installed into
ROOMS = ("configs", "data", "model", "eval", "train", "publish")
MOST_FILES = 12  # of a folder, without its face
MOST_LINES = 39  # of a face
HEAVY = {"torch", "transformers", "accelerate", "datasets"}


def modules(root):
    """Dotted name below `uprank` -> file, for every module of the rooms; a face has its folder's name."""
    found = {}
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(name, file, known):
    """Yield (module, line) of every import of ours, wherever in the file it stands."""
    package = ["uprank", *name.split(".")]
    if file.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            dotted = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for path in dotted:
            parts = path.split(".")
            if parts[0] != "uprank":
                continue
            while len(parts) > 1 and ".".join(parts[1:]) not in known:
                parts.pop()
            if len(parts) > 1:
                yield ".".join(parts[1:]), node.lineno


MODULES = modules(ROOT)
FACES = {name: file for name, file in MODULES.items() if file.name == "__init__.py" and "." in name}
FACES.pop("configs.experiment", None)  # YAML, and a package only so that Hydra finds it
IMPORTS = {name: sorted(set(imports(name, file, MODULES))) for name, file in MODULES.items()}


def folder(name):
    """Return the sub-package that a module belongs to; a room's own file stands for itself."""
    parts = name.split(".")
    inside = len(parts) > 2 or name in FACES
    return ".".join(parts[:2]) if inside else name


def circles(graph):
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            part = [stack.pop()]
            while part[-1] != node:
                part.append(stack.pop())
            if len(part) > 1:
                found.append(sorted(part))

    for node in list(graph):
        if node not in index:
            visit(node)
    return found


def test_every_room_and_its_folders_are_seen():
    assert {name.split(".")[0] for name in MODULES} == set(ROOMS)
    assert len(MODULES) > 200
    assert len(FACES) > 30


def test_the_import_reader_sees_every_form(tmp_path):
    for name in ("data/rows", "eval", "train"):
        (tmp_path / name).mkdir(parents=True)
    for room in ROOMS:
        (tmp_path / room).mkdir(exist_ok=True)
        (tmp_path / room / "__init__.py").touch()
    for name in ("data/rows/__init__", "data/rows/lines", "eval/measure", "train/loop", "train/loss"):
        (tmp_path / f"{name}.py").touch()
    source = """
import uprank.train.loop
import uprank.publish as card, json
from uprank.data import rows
from . import measure
from .. import __version__, configs
from ..train.loss import x
if TYPE_CHECKING:
    from ..data.rows import read
def f():
    from ..data.rows.lines import read
"""
    (tmp_path / "eval" / "x.py").write_text(source)
    known = modules(tmp_path)
    found = [name for name, _ in imports("eval.x", known["eval.x"], known)]
    expected = ["train.loop", "publish", "data.rows", "eval.measure", "configs", "train.loss"]
    assert sorted(found) == sorted([*expected, "data.rows", "data.rows.lines"])


def test_the_circle_finder_finds_circles():
    assert circles({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["e"]}) == [["a", "b", "c"]]
    assert circles({"a": ["b", "c"], "b": ["c"]}) == []


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_from_right_to_left(name):
    own = ROOMS.index(name.split(".")[0])
    wrong = [f"line {line}: {used}" for used, line in IMPORTS[name] if ROOMS.index(used.split(".")[0]) > own]
    assert wrong == []


def test_no_import_circle_between_files():
    # A face imports its own files and is what other folders import; a file never imports its own face.
    graph = {name: {used for used, _ in found if used != name} for name, found in IMPORTS.items()}
    assert circles(graph) == []


def test_no_import_circle_between_folders():
    graph = defaultdict(set)
    for name, found in IMPORTS.items():
        graph[folder(name)] |= {folder(used) for used, _ in found} - {folder(name)}
    assert circles(graph) == []


@pytest.mark.parametrize("name", MODULES)
def test_other_folders_are_reached_through_their_faces(name):
    wrong = [
        f"line {line}: {used}"
        for used, line in IMPORTS[name]
        if folder(used) != folder(name) and folder(used) in FACES and used not in FACES
    ]
    assert wrong == []


@pytest.mark.parametrize("where", sorted({file.parent for file in MODULES.values()}), ids=lambda p: p.name)
def test_no_folder_is_crowded(where):
    files = [
        file.name for file in where.iterdir() if file.suffix in (".py", ".j2") and file.stem != "__init__"
    ]
    assert len(files) <= (15 if where == ROOT / "configs" else MOST_FILES), sorted(files)


@pytest.mark.parametrize("name", FACES)
def test_a_face_is_short_and_lists_its_files(name):
    text = FACES[name].read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    documented = ast.get_docstring(ast.parse(text))
    missing = [
        file.name
        for file in FACES[name].parent.glob("*.py")
        if file.name != "__init__.py" and f"\n{file.name} " not in documented
    ]
    assert missing == []


@pytest.mark.parametrize("name", FACES)
def test_a_lazy_face_gives_what_it_shows_to_type_checkers(name):
    tree = ast.parse(FACES[name].read_text(encoding="utf-8"))
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy"
    ]
    if not calls:
        pytest.skip("an eager face")
    (call,) = calls
    given = {keyword.arg: sorted(ast.literal_eval(keyword.value).split()) for keyword in call.keywords}
    shown = {
        node.module: sorted(alias.name for alias in node.names)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
    }
    assert given == shown
    # A name that a file of the folder has as well would be the file once that is imported.
    assert not {n for names in given.values() for n in names} & {
        p.stem for p in FACES[name].parent.glob("*.py")
    }


def test_faces_are_light(tmp_path):
    names = ", ".join(f"uprank.{name}" for name in [*ROOMS, *FACES])
    script = f"import {names}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
