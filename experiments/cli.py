"""The flags that the commands share, and the configuration they mean. Imports no JAX: worker processes come by here."""

import argparse
import re
import sys
from typing import Any, NoReturn

from absl import flags

from trqam_jax.errors import UserError, suggest

SHARED_FLAGS = [
    flags.DEFINE_string("env", "puzzle-4x4", "Domain (its default task), DOMAIN-taskK, or OGBench's singletask name."),
    flags.DEFINE_string("tasks", None, "Several tasks of the domain in one process: 1,3 or all."),
    flags.DEFINE_list("seeds", None, "Seeds: one replica each, for every task."),
    flags.DEFINE_integer("num_seeds", None, "The protocol's first so many seeds: 10001, 20002, ... Default: one."),
    flags.DEFINE_string("protocol", "trqam", "trqam (the paper's), qam (the QAM paper's) or quick."),
    flags.DEFINE_string("dataset", None, "auto (a local file, else a download), generate, or a path."),
    flags.DEFINE_string("dataset_dir", None, "Where dataset files are kept."),
    flags.DEFINE_integer("dataset_episodes", None, "Episodes to generate with --dataset=generate."),
    flags.DEFINE_string("out_dir", None, "Where runs leave their folders."),
    flags.DEFINE_string("group", None, "Folder of the runs that belong together."),
    flags.DEFINE_integer("bc_steps", None, "Updates of behaviour cloning."),
    flags.DEFINE_string("bc_checkpoint", None, "Start from this cloned policy; with --bc_steps=0."),
    flags.DEFINE_integer("offline_steps", None, "Offline updates."),
    flags.DEFINE_integer("eval_interval", None, "Updates between evaluations."),
    flags.DEFINE_integer("eval_episodes", None, "Episodes per evaluation and replica."),
    flags.DEFINE_integer("video_episodes", None, "Episodes per evaluation and replica to write as GIFs."),
    flags.DEFINE_integer(
        "replicas_per_pass", None, "Replicas that train in one dispatch; default: what memory allows."
    ),
    flags.DEFINE_integer("log_interval", None, "Updates between rows of train.csv."),
]


SHARED = {flag.name: flag for flag in SHARED_FLAGS}


def fail(error: BaseException) -> NoReturn:
    """One line on stderr and a non-zero exit, for what the user can do something about."""
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted; the rows so far are kept, and the run cannot be resumed yet", file=sys.stderr)
        sys.exit(130)
    if isinstance(error, OSError) and error.strerror:
        sys.exit(f"error: {error.filename or 'system'}: {error.strerror}")
    sys.exit(f"error: {error}")


class Parser(argparse.ArgumentParser):
    """For the commands that read results: files beside flags, flags written out, errors in one line."""

    def __init__(self, **options: Any):
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options)

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}; see --help")


def parse(argv: list[str]) -> list[str]:
    """Flags as absl reads them; what it does not know must be --config.key=value. For `app.run(flags_parser=...)`."""
    try:
        program, *rest = flags.FLAGS(argv, known_only=True)
        for argument in rest:
            if not re.match(r"--config\.[^=]+=", argument):
                known = flags.FLAGS.get_key_flags_for_module(program)
                names = [*(flag.name for flag in known), "config.SECTION.KEY=VALUE"]
                raise UserError(f"Unknown argument {argument!r}.{suggest(argument.lstrip('-').split('=')[0], names)}")
    except (flags.Error, UserError) as error:
        fail(error)
    return [program, *rest]


def resolve(agent: str, argv: list[str]) -> Any:
    """The locked configuration of `agent` that the parsed flags and argv's --config.key=value mean."""
    from experiments import config as configuration

    given = {flag.name: flag.value for flag in SHARED_FLAGS if flag.value is not None}
    settings = {key: given.pop(name) for name, key in configuration.FLAG_KEYS.items() if name in given}
    overrides = dict(argument.removeprefix("--config.").split("=", 1) for argument in argv[1:])
    return configuration.resolve(agent=agent, **given, settings=settings, overrides=overrides)
