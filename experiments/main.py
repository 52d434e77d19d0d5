"""Train and evaluate an agent: python experiments/main.py --agent=trqam --env=puzzle-4x4 (see --help and --list).

Worker processes import this file again, so it imports JAX only inside its functions.
"""

import pathlib
import sys

from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax import console
from trqam_jax.errors import UserError

AGENT = flags.DEFINE_string("agent", "trqam", "Algorithm; --list prints them.")
LIST = flags.DEFINE_bool("list", False, "Print the known agents, environments and protocols, and stop.")
flags.adopt_module_key_flags(cli)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # absl's handler would print every step of the libraries below
    if LIST.value:
        from experiments.listing import listing

        print(listing())
        return
    from experiments.config import as_text
    from experiments.training.run import run
    from trqam_jax import backend

    try:
        config = cli.resolve(AGENT.value, argv)
        print(as_text(config), flush=True)
        backend.keep_compiled_programs()
        with backend.explained():
            backend.prepare_process()
            folder = run(config)
        from experiments.analysis.summary import summarise  # here, because what it imports is not needed to train

        print(summarise(folder))
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


if __name__ == "__main__":
    console.prepare()
    app.run(main, flags_parser=cli.parse)
