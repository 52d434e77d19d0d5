"""python -m envs.download, envs.generate and envs.convert: handed over to the suite of --env."""

import sys

from envs import SUITES, Suite, parse_env, suite_of
from envs.downloads import policy_listing
from trqam_jax import console
from trqam_jax.errors import UserError


def hand_over(command: str) -> None:
    """Call the command of the suite that --env names, with this process's arguments; download --list is of all."""
    console.prepare()
    arguments = sys.argv[1:]
    parser = console.Parser(prog=f"python -m envs.{command}", add_help=False)
    parser.add_argument("--env", default="")
    parser.add_argument("--list", action="store_true")
    known = parser.parse_known_args(arguments)[0]
    try:
        lists = command == "download" and known.list
        suites = _able(command) if lists and not known.env else [_suite(command, known.env)]
    except UserError as error:
        sys.exit(f"error: {error}")
    for suite in suites:
        suite.commands[command](arguments)
        domain = parse_env(known.env)[0].name if lists and known.env else ""
        if lists and suite.bc_policies is not None and (text := policy_listing(suite.bc_policies, domain)):
            print(text)


def _able(command: str) -> list[Suite]:
    """The suites that have the command."""
    return [suite for suite in SUITES.values() if command in suite.commands]


def _suite(command: str, env: str) -> Suite:
    """The suite that has the command for this --env; "" if it is not given."""
    able = _able(command)
    names = ", ".join(suite.name for suite in able)
    for suite in able:
        if suite.split(env)[0] in suite.untrained:
            return suite
    try:
        suite = suite_of(parse_env(env)[0])
    except UserError:
        if len(able) == 1:  # its own usage and its own errors say more
            return able[0]
        if env:
            raise
        raise UserError(f"give --env=DOMAIN, of a suite with a {command} command: {names}") from None
    if suite not in able:
        raise UserError(f"--env={env}: suite {suite.name} has no {command} command; suites with one: {names or 'none'}")
    return suite
