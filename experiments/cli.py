"""The flags that the commands share, and the configuration they mean. Imports no JAX: worker processes come by here."""

import argparse
import os
import re
import sys
from typing import Any, NoReturn

from absl import flags

from experiments.training.interrupt import Interrupted
from trqam_jax.errors import UserError, suggest

#: The exit status of a run that a signal stopped and that the same command continues (sysexits.h calls it TEMPFAIL).
EXIT_INTERRUPTED = os.EX_TEMPFAIL

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
    flags.DEFINE_integer("online_steps", None, "Environment steps of the online phase, per replica."),
    flags.DEFINE_integer("start_training", None, "Online: transitions that are stored at the first update."),
    flags.DEFINE_integer("updates_per_step", None, "Online: updates per environment step (the UTD ratio)."),
    flags.DEFINE_bool("balanced_sampling", None, "Online: one half of every minibatch from what was played."),
    flags.DEFINE_float("kl_budget_online", None, "KL budget of the online phase; default: as offline."),
    flags.DEFINE_integer("log_interval", None, "Steps between rows of train.csv."),
    flags.DEFINE_integer("replicas_per_pass", None, "Replicas in one dispatch; default: what memory allows."),
    flags.DEFINE_integer("save_interval", None, "Updates between checkpoints; online: --config.online.save_interval."),
    flags.DEFINE_enum("resume", None, ["auto", "must", "never"], "Go on with an interrupted run of the same settings?"),
]


SHARED = {flag.name: flag for flag in SHARED_FLAGS}


def fail(error: BaseException) -> NoReturn:
    """One line on stderr and a non-zero exit, for what the user can do something about."""
    if isinstance(error, Interrupted):
        print(f"{error}; the same command goes on from there", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    if isinstance(error, KeyboardInterrupt):
        print("error: interrupted", file=sys.stderr)
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
