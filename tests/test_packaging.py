"""Decisions that a slip would undo in silence: what loads what, the text of files, what the wheel holds."""

import importlib
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import uprank

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(uprank.__file__).parent  # the checkout, or the folder that a wheel was installed into
ROOMS = ("configs", "data", "model", "eval", "train", "publish")
MODULES = sorted(
    file.relative_to(ROOT)
    for file in [
        *(ROOT / name for name in ("__init__.py", "__main__.py", "lazy.py")),
        *(file for room in ROOMS for file in (ROOT / room).rglob("*.py")),
    ]
)
in_checkout = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="an installed wheel is tested"
)
HEAVY = {"torch", "transformers", "accelerate", "datasets", "numpy", "hydra", "omegaconf", "rich"}


def module_name(file):
    parts = [part for part in ("uprank", *file.with_suffix("").parts) if part != "__init__"]
    return ".".join(parts)


def test_evaluation_never_imports_training(tmp_path):
    names = [module_name(file) for file in MODULES if file.parts[0] == "eval" and file.name != "__main__.py"]
    assert len(names) > 15
    loaded = modules_after("import " + ", ".join([*names, "uprank.eval.__main__"]), tmp_path)
    assert not {name for name in loaded if name.startswith(("uprank.train", "uprank.publish"))}
    assert "uprank.eval.measures.measure" in loaded


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_every_module_imports(file):
    importlib.import_module(module_name(file))


def settings():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@in_checkout
def test_the_version_is_one():
    assert uprank.__version__ == settings()["project"]["version"]


def modules_after(code, cwd):
    """Names of all modules that a fresh interpreter has loaded after the code."""
    script = f"{code}\nimport sys\nsys.stdout.write('\\n'.join(['', '@', *sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n@\n")[1].splitlines()


def test_import_uprank_loads_nothing_heavy(tmp_path):
    loaded = modules_after("import uprank; uprank.__version__", tmp_path)
    assert "uprank" in loaded
    assert not HEAVY & set(loaded)


def test_the_reranker_is_one_import_away():
    from uprank import Reranker
    from uprank.model.reranker import Reranker as Same

    assert Reranker is Same
    with pytest.raises(AttributeError, match="no attribute 'Ranker'"):
        uprank.Ranker  # noqa: B018


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_nothing_heavy(tmp_path, argument):
    code = f"import sys; sys.argv = ['uprank', '{argument}']\nfrom uprank.__main__ import main\nmain()"
    assert not HEAVY & set(modules_after(code, tmp_path))


@pytest.mark.parametrize("command", ["check", "mine", "train", "runs", "eval", "publish", "verify", "score"])
def test_help_of_a_command_loads_neither_torch_nor_transformers(tmp_path, command):
    code = (
        f"import sys; sys.argv = ['uprank', '{command}', '--help']\nfrom uprank.__main__ import main\nmain()"
    )
    assert not {"torch", "transformers", "accelerate"} & set(modules_after(code, tmp_path))


# ---- the text of the files

SUFFIXES = {".py", ".yaml", ".toml", ".j2", ".md", ".txt", ".cfg", ".yml", ".tsv", ".sh", ""}


def committed_texts():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [Path(name) for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.suffix in SUFFIXES and (ROOT / file).is_file()]


@in_checkout
def test_no_path_of_a_machine_and_no_loose_end_in_any_file():
    files = committed_texts()
    assert len(files) > 80
    machine = re.compile(r"(?<![\w.:/-])/(?:home|root|Users|work|tmp|mnt|opt)/[\w.-]+")
    loose = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [
        f"{file}:{number}: {line.strip()}"
        for file in files
        for number, line in enumerate((ROOT / file).read_text(encoding="utf-8").splitlines(), 1)
        if machine.search(line) or loose.search(line)
    ]
    assert found == []


# ---- the wheel


def setuptools_version():
    try:
        return int(version("setuptools").split(".")[0])
    except PackageNotFoundError:
        return 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names of the files in a wheel built from a copy of the tree (a build writes beside its sources)."""
    import shutil

    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    skipped = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "tests", "runs", "__pycache__")
    shutil.copytree(ROOT, source, ignore=skipped)
    # Without an environment of its own a build needs no network, but a setuptools that is new enough.
    apart = ["--no-isolation"] if setuptools_version() >= 77 else []
    command = [sys.executable, "-m", "build", "--wheel", *apart, "--outdir", str(folder / "out"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


@in_checkout
@pytest.mark.slow
def test_the_wheel_holds_what_the_tree_holds(wheel):
    suffixes = {".py", ".yaml", ".j2"}
    tree = {
        f"uprank/{file.relative_to(ROOT).as_posix()}"
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.suffix in suffixes
    }
    tree |= {f"uprank/{file.name}" for file in ROOT.glob("*.py") if file.name != "setup.py"}
    assert len(tree) > 60
    assert {name for name in wheel if Path(name).suffix in suffixes} == tree


@in_checkout
@pytest.mark.slow
def test_the_wheel_holds_the_type_mark_and_the_licence_and_no_tests(wheel):
    assert "uprank/py.typed" in wheel
    assert any(name.endswith("licenses/LICENSE") for name in wheel)
    assert not [name for name in wheel if re.search(r"(^|/)(tests|benchmarks|docs)/|conftest|\.typing", name)]
