"""Train and evaluate an agent: python experiments/main.py --agent=trqam --env=puzzle-4x4 (see --help and --list).

Worker processes import this file again, so it imports JAX only inside its functions.
"""

import pathlib
import re
import sys

from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from trqam_jax.errors import UserError, suggest

OWN_FLAGS = [
    flags.DEFINE_string("agent", "trqam", "Algorithm; --list prints them."),
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
    flags.DEFINE_integer("log_interval", None, "Updates between rows of train.csv."),
    flags.DEFINE_bool("list", False, "Print the known agents, environments and protocols, and stop."),
]


def parse(argv: list[str]) -> list[str]:
    """Flags as absl reads them; what it does not know must be --config.key=value."""
    try:
        program, *rest = flags.FLAGS(argv, known_only=True)
        for argument in rest:
            if not re.match(r"--config\.[^=]+=", argument):
                names = [*(flag.name for flag in OWN_FLAGS), "config.SECTION.KEY=VALUE"]
                raise UserError(f"Unknown argument {argument!r}.{suggest(argument.lstrip('-').split('=')[0], names)}")
    except (flags.Error, UserError) as error:
        sys.exit(f"error: {error}")
    return [program, *rest]


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # absl's handler would print every step of the libraries below
    from experiments import config as configuration
    from experiments.listing import listing
    from experiments.run import run
    from experiments.summary import summarise

    given = {flag.name: flag.value for flag in OWN_FLAGS if flag.value is not None}
    if given.pop("list"):
        print(listing())
        return
    overrides = dict(argument.removeprefix("--config.").split("=", 1) for argument in argv[1:])
    settings = {
        configuration.FLAG_KEYS[name]: given.pop(name) for name in list(given) if name in configuration.FLAG_KEYS
    }
    try:
        config = configuration.resolve(**given, settings=settings, overrides=overrides)
        print(configuration.as_text(config), flush=True)
        print(summarise(run(config)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
