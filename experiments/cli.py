"""The flags that the commands share, and the configuration they mean. Imports no JAX: worker processes come by here."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from absl import flags

from experiments import settings as declarations
from experiments.training.interrupt import Interrupted
from trqam_jax import ahead
from trqam_jax.errors import DeviceFailed, UserError, one_line, suggest
from trqam_jax.settings import Setting, value_type
from trqam_jax.settings import parse as parse_value

#: The exit status of a run that a signal stopped and that the same command continues (sysexits.h calls it TEMPFAIL).
EXIT_INTERRUPTED = os.EX_TEMPFAIL
#: The end of the last line that such a run prints.
GOES_ON = "; the same command goes on from there"
#: Of a run whose device failed, or would not start: the same command goes on, better on another one (UNAVAILABLE).
EXIT_DEVICE_FAILED = os.EX_UNAVAILABLE


class _Value(flags.ArgumentParser):
    """A flag's text, read as its setting has it."""

    def __init__(self, setting: Setting):
        super().__init__()
        self._setting = setting
        self.syntactic_help = "|".join(setting.choices) if setting.choices else value_type(setting).__name__

    def parse(self, argument: Any) -> Any:
        return (
            parse_value(self._setting, f"--{self._setting.flag}", argument) if isinstance(argument, str) else argument
        )

    def flag_type(self) -> str:
        return value_type(self._setting).__name__


def _define(setting: Setting) -> flags.FlagHolder:
    if value_type(setting) is bool:  # --balanced_sampling and --nobalanced_sampling
        return flags.DEFINE_bool(setting.flag, None, setting.help)
    return flags.DEFINE(_Value(setting), setting.flag, None, setting.help)


#: By name: the flags of main.py but --agent and --list.
SHARED: dict[str, flags.FlagHolder] = {
    "env": flags.DEFINE_string("env", "puzzle-4x4", "Domain (its default task), DOMAIN-taskK, or a task's full name."),
    "tasks": flags.DEFINE_string("tasks", None, "Several tasks of the domain in one process: 1,3 or all."),
    "seeds": flags.DEFINE_list("seeds", None, "Seeds: one replica each, for every task."),
    "num_seeds": flags.DEFINE_integer(
        "num_seeds", None, "The protocol's first so many seeds: 10001, 20002, ... Default: one."
    ),
    "protocol": flags.DEFINE_string("protocol", "trqam", "trqam (the paper's), qam (the QAM paper's), quick or small."),
    **{setting.flag: _define(setting) for setting in declarations.flat().values() if setting.flag},
}


def define_agents_flags(program: str = "") -> None:
    """Those that agents' settings ask for; not at import, because agents import JAX. program: whose --help has them."""
    from experiments.config import online_settings

    for setting in online_settings().values():
        if setting.flag not in SHARED:
            SHARED[setting.flag] = _define(setting)
        if program:
            flags.FLAGS.register_key_flag_for_module(program, flags.FLAGS[setting.flag])


def fail(error: BaseException) -> NoReturn:
    """One line on stderr and a non-zero exit, for what the user can do something about."""
    if isinstance(error, Interrupted):
        print(f"{error}{GOES_ON}\n", end="", file=sys.stderr)  # one write, because Slurm writes there, too
        ahead.leave(EXIT_INTERRUPTED)
    if isinstance(error, DeviceFailed):
        print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(EXIT_DEVICE_FAILED)  # at an ordinary exit the device's libraries tidy up, and hang or abort without it
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
        ahead.leave(130)
    if isinstance(error, OSError) and error.strerror:
        error = UserError(f"{error.filename or 'system'}: {error.strerror}")
    ahead.leave(f"error: {one_line(str(error))}")


def names(kind: str, known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """The type of a flag that takes NAME,...: of the names that are known, each once."""

    def parse_names(text: str) -> tuple[str, ...]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown {kind} {name!r}.{suggest(name, known)}")
        return tuple(dict.fromkeys(text.split(",")))

    return parse_names


def parse(argv: list[str], *, agents_flags: bool = True) -> list[str]:
    """Flags as absl reads them; what it does not know must be --config.key=value. For `app.run(flags_parser=...)`.

    agents_flags: whether those that agents' settings ask for are among them, which imports JAX.
    """
    if agents_flags:
        define_agents_flags(argv[0])
    try:
        program, *rest = flags.FLAGS(argv, known_only=True)
        for argument in rest:
            if not re.match(r"--config\.[^=]+=", argument):
                names = [*SHARED, *_flags_of(program), "config.SECTION.KEY=VALUE"]
                raise UserError(f"Unknown argument {argument!r}.{suggest(argument.lstrip('-').split('=')[0], names)}")
    except flags.IllegalFlagValueError as error:
        fail(error.__context__ if isinstance(error.__context__, UserError) else error)
    except (flags.Error, UserError) as error:
        fail(error)
    return [program, *rest]


def _flags_of(program: str) -> list[str]:
    return [flag.name for flag in flags.FLAGS.get_key_flags_for_module(program) if flag.name not in SHARED]


def given() -> dict[str, Any]:
    """{name: value} of the shared flags that have one."""
    return {name: flag.value for name, flag in SHARED.items() if flag.value is not None}


def overrides(argv: list[str]) -> dict[str, str]:
    """{flat key: text} of the --config.key=text in argv, whose first entry is the program."""
    return dict(argument.removeprefix("--config.").split("=", 1) for argument in argv[1:])


def resolve(agent: str, argv: list[str]) -> Any:
    """The locked configuration of `agent` that the parsed flags and argv's --config.key=value mean."""
    from experiments import config as configuration

    named, by_flag = given(), configuration.flags()
    settings = {by_flag[name]: named.pop(name) for name in list(named) if name in by_flag}
    given_by_key = overrides(argv)
    config = configuration.resolve(agent=agent, **named, settings=settings, overrides=given_by_key)
    for key in given_by_key:
        if not configuration.reads(agent, key):
            print(f"warning: --config.{key}={given_by_key[key]}: {agent} does not use this setting", file=sys.stderr)
    return config
