"""A trained policy as a folder that anyone can load, and that folder on the Hugging Face Hub.

    python experiments/policy.py export RUN --out=DIR --task=1 --seed=10001
    python experiments/policy.py push DIR owner/name

RUN is a run's folder, a BC stage's, or a BC policy's own. DIR gets policy.safetensors, policy.json and a model card, no
code. docs/policies.md says how it is loaded. (`export.py` exports results, not policies.)
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # a checkout works without being installed

from experiments import cli
from trqam_jax import console
from trqam_jax.errors import UserError


def main(argv: list[str] | None = None) -> None:
    parser = console.Parser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=console.Parser)
    export = commands.add_parser("export", help="write a policy's folder")
    export.add_argument("source", type=pathlib.Path, metavar="RUN", help="the folder of a run or of a BC policy")
    export.add_argument("--out", required=True, type=pathlib.Path, help="the folder to make")
    export.add_argument("--task", type=int, help="of a run with several tasks")
    export.add_argument("--seed", type=int, help="of a run, or a BC policy, with several seeds")
    export.add_argument("--variant", help="of a run with swept values, as eval.csv has it: kl_budget=0.5")
    export.add_argument("--env", help="of a BC policy that was imported without it")
    export.add_argument(
        "--flow_steps", type=int, help="Euler steps of a BC policy (default: as its stage has it, or 10)"
    )
    push = commands.add_parser("push", help="upload a policy's folder")
    push.add_argument("folder", type=pathlib.Path, metavar="DIR", help="what export wrote")
    push.add_argument("repository", metavar="owner/name", help="the model repository, made if there is none")
    push.add_argument("--private", action="store_true", help="make it a private one")
    arguments = parser.parse_args(argv)
    try:
        {"export": _export, "push": _push}[arguments.command](arguments)
    except (UserError, OSError) as error:
        cli.fail(error)


def _export(arguments: argparse.Namespace) -> None:
    from experiments.training.policy_export import Choice, export

    choice = Choice(**{name: getattr(arguments, name) for name in Choice._fields})
    manifest = export(arguments.source, arguments.out, choice)
    print(f"{arguments.out}: a policy of {manifest.method}, {manifest.about['env']}, {manifest.about['steps']:,} steps")


def _push(arguments: argparse.Namespace) -> None:
    from agents.policy import load
    from trqam_jax import hub, policy_files

    load(arguments.folder)  # what cannot be loaded is not for others
    url, name = hub.push(arguments.folder, arguments.repository, policy_files.FILES, private=arguments.private)
    print(f"{url}: as {hub.SCHEME}{name}")


if __name__ == "__main__":
    console.prepare()
    main()
