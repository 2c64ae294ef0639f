"""From the command line to typed settings: Hydra composes, this file refuses clearly."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from . import sweep as sweeps
from .errors import UserError
from .help import known_keys, nearest, print_help, setting_groups
from .schema import MISSING
from .spelling import respelled, spelled

Settings = TypeVar("Settings")

# Errors of the system that are no defect of ours.
ENVIRONMENT = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "EMFILE", "ENAMETOOLONG"),
        *("ENOTDIR", "EISDIR", "ELOOP"),
    )
    if hasattr(errno, name)
}
# What gloo, NCCL and torch.distributed say when another process is gone, or does not answer.
LOST = re.compile(r"gloo/|closed by peer|reset by peer|NCCL|ProcessGroup|TCPStore|c10d", re.IGNORECASE)
TIMEOUT = re.compile(r"time(d)? ?-?out", re.IGNORECASE)

FLAGS_WITH_VALUE = {"--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--info"}
FLAGS_WITH_VALUE |= {"-c", "-p", "-cp", "-cn", "-cd", "-i", "--experimental-rerun"}


def run(
    command: str,
    schema: type[Settings],
    function: Callable[[Settings], None],
    sweep: sweeps.Sweep | None = None,
) -> None:
    """Run `uprank COMMAND`: compose its settings from YAML and command line, then call the function.

    Structured defaults <- YAML <- experiment <- command line. Every mistake of the user gives a plain message
    and exit code 2; a traceback means a defect in Uprank. With `-m` the jobs run one after the other even if
    some fail (exit code 1); `sweep` is what the command knows about its jobs.
    """
    # Hydra's parser wants its flag before all settings.
    sys.argv[1:] = arguments = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    if {"-h", "--help"} & set(arguments):
        print_help(command, schema)
        return
    try:
        words = spelled(arguments, schema)
        _check_arguments(command, schema, arguments, words)
        settings = _compose(command, schema, function, sweep, words)
        if settings is not None:
            function(settings)
    except UserError as error:
        fail(command, error)
    except OSError as error:
        if error.errno not in ENVIRONMENT:
            raise
        fail(command, UserError(f"{error.filename or 'a file'}: {error.strerror}", advice=_room(error)))
    except RuntimeError as error:
        if not LOST.search(str(error)):
            raise
        if os.environ.get("WORLD_SIZE", "1") == "1":  # there is no other process
            raise
        waited = TIMEOUT.search(str(error)) is not None
        what = "does not answer" if waited else "has ended, or cannot be reached; its own message says why"
        _end(command, f"{what} ({str(error).strip().splitlines()[0]:.200})")
    except KeyboardInterrupt:
        again = "; the same command continues after the last checkpoint" if command == "train" else ""
        sys.stderr.write(f"\nuprank {command}: interrupted{again}\n")
        raise SystemExit(130) from None


def _room(error: OSError) -> str:
    return "Make room on the disk, then give the command again." if error.errno == errno.ENOSPC else ""


def _end(command: str, what: str) -> NoReturn:
    """Leave because another process is lost; each says so, as its messages may be all that one sees."""
    rank = os.environ.get("RANK", "0")
    again = "; the same command continues after the last checkpoint" if command == "train" else ""
    sys.stderr.write(f"uprank {command} (process {rank}): another process of this run {what}{again}\n")
    sys.stderr.flush()
    os._exit(1)  # a lost group can block the usual end


def fail(command: str, error: UserError) -> None:
    """Print the problems to stderr and exit with 2; of several processes only the first prints."""
    if os.environ.get("RANK", "0") != "0" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise SystemExit(2)
    count = len(error.problems)
    lines = [f"uprank {command}: {count} problems" if count > 1 else f"uprank {command}: {error.problems[0]}"]
    lines += [f"  {problem}" for problem in error.problems] if count > 1 else []
    lines += [error.advice] if error.advice else []
    sys.stderr.write("\n".join(lines) + "\n")
    raise SystemExit(2)


def _compose(
    command: str,
    schema: type[Settings],
    function: Callable[[Settings], None],
    sweep: sweeps.Sweep | None,
    words: list[str],
) -> Settings | None:
    """Return the settings of a single job; None after a sweep, which runs here, and after Hydra's `--cfg`."""
    # Imported here: Hydra costs a quarter of a second that `--help` need not pay.
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    composed: list[Settings] = []

    def task(config: Any) -> float | None:
        job = HydraConfig.get()
        if job.mode is RunMode.MULTIRUN:  # each job has its own place below the output asked for
            config.output = str(Path(config.output) / str(job.job.num))
            make = partial(_typed, command, schema, config)
            differing = [word for word in job.overrides.task if word not in words]
            return sweeps.run_job(function, make, sweep, Path(config.output), " ".join(differing))
        try:
            composed.append(_typed(command, schema, config))
        except UserError as error:
            fail(command, error)
        return None

    ConfigStore.instance().store(name=f"{command}_schema", node=schema)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on instead of printing them
    typed, failed = sys.argv[1:], False
    multirun = bool({"-m", "--multirun"} & set(words))
    folder = sweeps.output_of(words) if multirun else None
    sweeps.begin(folder)
    try:
        sys.argv[1:] = words
        hydra.main(version_base="1.3", config_path="pkg://uprank.configs", config_name=command)(task)()
    except sweeps.JobFailed:
        failed = True
    except (HydraException, OmegaConfBaseException) as error:
        unset = "output is not set: the folder of the whole sweep"
        problem = unset if multirun and folder is None and "output" in str(error) else _plain(error)
        raise UserError(problem, advice=f"All settings: uprank {command} --help") from error
    finally:
        sys.argv[1:] = typed  # as manifests and reports tell them
    if multirun:
        sweeps.close(command, folder, sweep, failed=failed)
    return composed[0] if composed else None


def _typed(command: str, schema: type[Settings], config: Any) -> Settings:
    """The composed settings as the dataclass; every mandatory one that is missing is listed."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    used = HydraConfig.get().runtime
    folders = [Path(source.path) for source in used.config_sources if source.schema == "file"]
    if problems := respelled(used.choices, [*folders, Path(__file__).parent], schema):
        raise UserError(problems)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        meanings = known_keys(schema)
        raise UserError(
            [f"{key} is not set: {meanings.get(key, '')}" for key in missing],
            advice=f"Set it on the command line: {missing[0]}=…; all settings: uprank {command} --help",
        )
    try:
        settings: Any = OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise UserError(_plain(error), advice=f"All settings: uprank {command} --help") from error
    return settings


def _check_arguments(command: str, schema: type[Any], arguments: list[str], words: list[str]) -> None:
    """Refuse what cannot be read, unknown keys and values of a wrong type; all of them at once.

    Args:
        command: name of the command.
        schema: its settings.
        arguments: words as typed, for messages.
        words: the same, spelled for Hydra.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    known = known_keys(schema)
    groups = setting_groups(command)
    problems = [f"{argument!r}: settings are written KEY=VALUE" for argument in _stray(arguments)]
    for argument, word in zip(arguments, words, strict=True):
        if argument.startswith("-") or "=" not in argument:
            continue
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException as error:
            name, _, given = argument.partition("=")
            quoted = '["…","…"]' if given.startswith("[") else '"…"'
            problems.append(
                f"{argument}: cannot be read ({_plain(error)}); special characters are quoted twice, "
                f"for Hydra and for the shell: '{name}={quoted}'"
            )
            continue
        key = override.key_or_group.split("@")[0]
        inner = any(name.startswith(f"{key}.") for name in known)
        if key in groups and override.value() is None and not override.is_delete():
            problems.append(f"{argument}: allowed are {', '.join(groups[key])}")
            continue
        if key == "output" and override.is_sweep_override():
            problems.append(f"{argument}: one folder for the whole sweep; its jobs have numbers below it")
            continue
        if key.split(".")[0] == "hydra" or key.split("/")[0] in ("hydra", *groups):
            continue  # Hydra knows what is allowed
        if key not in known and not inner:
            problems.append(f"unknown setting {key!r}{nearest(key, [*known, *groups])}")
        elif override.is_choice_sweep() or override.is_range_sweep():
            for value in override.sweep_iterator():
                problems += _type_problems(schema, f"{key}={value}", key, value)
        elif not override.is_sweep_override() and not override.is_delete():
            problems += _type_problems(schema, argument, key, override.value())
    if {"-m", "--multirun"} & set(arguments) and _output_is_one_file(schema):
        problems.append(f"-m: {command} has no output, so that the jobs of a sweep cannot be told apart")
    if problems:
        raise UserError(problems, advice=f"All settings: uprank {command} --help")


def _output_is_one_file(schema: type[Any]) -> bool:
    """Return True if a command has no output, or one that may be left out."""
    return getattr(schema(), "output", None) != MISSING


def _type_problems(schema: type[Any], argument: str, key: str, value: Any) -> list[str]:
    from omegaconf import OmegaConf, ValidationError
    from omegaconf.errors import OmegaConfBaseException

    parts = [name for name in known_keys(schema) if name.startswith(f"{key}.")]
    if parts and not isinstance(value, dict):
        return [f"{argument}: {key} has several settings: {', '.join(parts)}"]
    try:
        OmegaConf.update(OmegaConf.structured(schema), key, value)
    except ValidationError as error:
        return [f"{argument}: {_plain(error)}"]
    except OmegaConfBaseException:  # an interpolation, which only the composed settings can resolve
        return []
    return []


def _stray(arguments: list[str]) -> list[str]:
    """Words that are neither a setting, nor a flag of Hydra, nor the value of one."""
    return [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if not argument.startswith("-") and "=" not in argument and before not in FLAGS_WITH_VALUE
    ]


def _plain(error: BaseException) -> str:
    """The lines of an error of Hydra or OmegaConf, without its hints on tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("full_key", "object_type", "reference_type", "Set the env", "Config search path", "provider=")
    return "; ".join(line for line in lines if not line.startswith(noise)).replace(":;", ":")
