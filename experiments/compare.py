"""Train several agents under identical seeds and compare them, seed by seed.

    python experiments/compare.py --agents=trqam,qam,fql --env=cube-single-task1 --num_seeds=8 --protocol=quick

Takes the flags of main.py. All start from the same BC policy, see the same minibatches and start their evaluations
from the same states, so a difference between two of them is a difference of the methods. A --config.agent.KEY reaches
the agents that have the key. Worker processes import this file again, so it imports JAX only inside its functions.
"""

import pathlib
import sys
from typing import Any

from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax import console
from trqam_jax.errors import UserError

AGENTS = flags.DEFINE_list("agents", ["trqam", "qam", "fql"], "Algorithms; the others are compared with the first.")
flags.adopt_module_key_flags(cli)
MOST = 200  # letters of the runs' names in a file's


def configurations(names: list[str], argv: list[str]) -> list:
    """One configuration per agent. A setting that only some of the agents have is given to those."""
    import agents
    from experiments.config import reads, swept
    from trqam_jax.errors import suggest

    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"--agents={','.join(names)}: expected at least two different ones")
    for name in names:
        if name not in agents.AGENTS:
            raise UserError(f"Unknown agent {name!r}.{suggest(name, agents.AGENTS)}")
    result, used = [], set()
    for name in names:
        own = {f"--config.agent.{key}" for key in agents.default_config(name)}
        fitting = [a for a in argv[1:] if not a.startswith("--config.agent.") or a.split("=")[0] in own]
        used |= {a for a in fitting if reads(name, a.partition("=")[0].removeprefix("--config."))}
        result.append(cli.resolve(name, [argv[0], *fitting]))
        if result[-1].eval.episodes == 0:
            raise UserError("--eval_episodes=0: there would be nothing to compare")
        for key, values in swept(result[-1]).items():
            several = ",".join(map(str, values))
            raise UserError(f"--config.{key}={several}: expected one value; sweep.py takes several")
    unused = [argument for argument in argv[1:] if argument not in used]
    if unused:
        raise UserError(f"{unused[0]}: none of {', '.join(names)} uses this setting")
    return result


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)
    from experiments.analysis import compare
    from experiments.analysis.rows import read_run
    from experiments.analysis.summary import summarise
    from experiments.config import as_text as config_text
    from experiments.training.run import run
    from trqam_jax import backend

    try:
        configs = configurations(AGENTS.value, argv)
        backend.keep_compiled_programs()
        with backend.explained():
            backend.prepare_process()
        folders = {}
        for config in configs:
            print(f"\n== {config.agent_name}\n{config_text(config)}", flush=True)
            with backend.explained():
                folders[config.agent_name] = run(config)
            print(summarise(folders[config.agent_name]), flush=True)
        success = compare.paired({agent: compare.final_success(read_run(folders[agent])) for agent in folders})
        rows = compare.comparison(success)
        table, figure = write(list(folders.values()), rows, success)
        print(f"\n{compare.as_text(rows)}\n{table}, {figure}")
    except (UserError, OSError, KeyboardInterrupt) as error:
        cli.fail(error)


def write(folders: list[pathlib.Path], rows: list[dict[str, str]], success: Any) -> tuple[pathlib.Path, pathlib.Path]:
    """The comparison of the runs in these folders, as a table and a figure beside them; their paths."""
    from experiments.analysis import compare, grid
    from trqam_jax.files import replacing, sha256

    names = "-".join(folder.name for folder in folders)
    if len(names) > MOST:  # of many agents: a file's name has 255 bytes
        names = f"{len(folders)}-agents-{sha256([names.encode()])[:8]}"
    table, figure = (folders[0].with_name(f"comparison-{names}.{ending}") for ending in ("csv", "png"))
    with replacing([table, figure]) as temporary:
        with temporary[table].open("w", newline="", encoding="utf-8") as file:
            grid.write_csv(file, compare.COLUMNS, rows)
        with temporary[figure].open("wb") as file:
            compare.plot(file, success)
    return table, figure


if __name__ == "__main__":
    console.prepare()
    app.run(main, flags_parser=cli.parse)
