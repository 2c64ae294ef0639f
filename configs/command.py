"""From the command line to typed settings: Hydra composes, this file refuses clearly."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from .errors import UserError
from .help import known_keys, nearest, print_help

Settings = TypeVar("Settings")


def run(command: str, schema: type[Settings], function: Callable[[Settings], None]) -> None:
    """Run `uprank COMMAND`: compose its settings from YAML and command line, call the function.

    Structured defaults <- YAML <- experiment <- command line. Exits with 2 and a plain
    message on every mistake of the user; a traceback means a defect in Uprank.
    """
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print_help(command, schema)
        return
    try:
        swept = _check_keys(command, schema, arguments)
        _compose_and_call(
            command, schema, function, swept="-m" in arguments or "--multirun" in arguments or swept
        )
    except UserError as error:
        fail(command, error)


def fail(command: str, error: UserError) -> None:
    """Print the problems to stderr and exit with 2."""
    count = len(error.problems)
    lines = [f"uprank {command}: {count} problems" if count > 1 else f"uprank {command}: {error.problems[0]}"]
    lines += [f"  {problem}" for problem in error.problems] if count > 1 else []
    lines += [error.advice] if error.advice else []
    sys.stderr.write("\n".join(lines) + "\n")
    raise SystemExit(2)


def _compose_and_call(
    command: str, schema: type[Settings], function: Callable[[Settings], None], *, swept: bool
) -> None:
    # Imported here: Hydra costs a quarter of a second that `--help` need not pay.
    import hydra
    from hydra.core.config_store import ConfigStore
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    def task(config: Any) -> None:
        try:
            missing = sorted(OmegaConf.missing_keys(config))
            if missing:
                meanings = known_keys(schema)
                raise UserError(
                    [f"{key} is not set: {meanings.get(key, '')}" for key in missing],
                    advice=f"Set it on the command line, for example {missing[0]}=…; all settings: uprank {command} --help",
                )
            if swept:  # each job of a sweep has its own folder below the one asked for
                config.output = str(Path(config.output) / str(HydraConfig.get().job.num))
            settings: Any = OmegaConf.to_object(config)
            function(settings)
        except UserError as error:
            fail(command, error)

    ConfigStore.instance().store(name=f"{command}_schema", node=schema)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on instead of printing them
    try:
        hydra.main(version_base="1.3", config_path="pkg://uprank.configs", config_name=command)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_plain(error), advice=f"All settings: uprank {command} --help") from error


def _check_keys(command: str, schema: type[Any], arguments: list[str]) -> bool:
    """Refuse unknown keys with the nearest known one; say whether a value sweeps."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    known = known_keys(schema)
    groups = {folder.name for folder in Path(__file__).parent.iterdir() if folder.is_dir()}
    problems = []
    sweeps = False
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except OverrideParseException as error:
            problems.append(
                f"{argument}: cannot be read ({_plain(error)}); quote values with special characters"
            )
            continue
        key = override.key_or_group.split("@")[0]
        sweeps = sweeps or override.is_sweep_override()
        inside = any(key == name or name.startswith(f"{key}.") for name in known)
        open_ended = any(key.startswith(f"{name}.") for name in known if name in ("models",))
        if not (
            inside
            or open_ended
            or key in groups
            or key.split("/")[0] in ("hydra", *groups)
            or key[:6] == "hydra."
        ):
            problems.append(f"unknown setting {key!r}{nearest(key, [*known, *groups])}")
    stray = [argument for argument in arguments if not argument.startswith("-") and "=" not in argument]
    problems += [
        f"{argument!r}: settings are written KEY=VALUE"
        for argument in stray
        if not _follows_flag(argument, arguments)
    ]
    if problems:
        raise UserError(problems, advice=f"All settings: uprank {command} --help")
    return sweeps


def _follows_flag(argument: str, arguments: list[str]) -> bool:
    """Whether it is the value of one of Hydra's own flags (`--config-dir FOLDER`)."""
    place = arguments.index(argument)
    return place > 0 and arguments[place - 1].startswith("--")


def _plain(error: BaseException) -> str:
    """First lines of an error of Hydra, without its hints on tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [
        line
        for line in lines
        if not line.startswith(("full_key", "object_type", "reference_type", "Set the env"))
    ]
    return "; ".join(kept[:3])
