"""Command lines of every command, in this process, up to where it would train, draw, download or generate."""

import contextlib
import functools
import importlib
import operator
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
from absl import app, flags
from hypothesis import strategies as st

from benchmarks.fuzz.judge import Fault, Kind, Started, outcome, same
from benchmarks.fuzz.runs import write_run

#: Values that no flag expects, beside those that some do.
ODD = (
    "", " ", "0", "-0", "1", "-1", "007", "1e3", "1e400", "-1e400", "nan", "inf", "-inf", "1.5", "0x10", "1_000",
    "_1", "\u0661", "\u00b2", "\uff11", "true", "None", "none", "null", "[]", "()", "{}", "[1,2", "1,2", "1,1", ",",
    ",,", "1,", "(1, 2)", "64,64", "0.5,1", "nan,1", "a" * 10_000, "9" * 5000, "1," * 5000, "9223372036854775808",
    "4294967296", "18446744073709551616", "1e18", "\u00b1\u00e9\u6f22", "\U0001f642", "\u202eevil", "a\nb", "a\r\nb",
    "\x1b[31mred", "\udcff\udcfe", "\u2028", "../..", "/", "~", "~nobody", "~/x", "$HOME", "%s", "%(x)s", "{0}", "*",
    "[!a]", "--", "-", "=", "a=b", "'", '"', "\\", "auto", "never", "must", "ask", "all", "generate", "released",
    "released@", "released@..", "hub:", "hub:a", "hub:a/b", "hub:a/b@", "hub:a/b/c", "hub:a/b@c d", "hub://a/b",
    "HUB:a/b", "hub: a/b", "hub:/a/b", "hf://a/b", "hf://datasets/a/b", "hf:a/b", "hf:///", "hf://",
    "https://huggingface.co/a/b", "https://", "http:///x", "ftp://a/b", "file:///etc/passwd", "s3://a/b", "gs:",
    "/dev/null", "/dev/zero", "/proc/self/mem",
)  # fmt: skip
#: What a process can be given: no zero byte, and no half of a letter but those that stand for bytes.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
values = st.sampled_from(ODD) | words | st.integers().map(str) | st.floats().map(str)


def _flag(names: Sequence[str]) -> st.SearchStrategy[str]:
    """One argument: a known flag with some value, one that is misspelt, or something else."""
    name = st.sampled_from(list(names))
    return st.one_of(
        st.builds("--{}={}".format, name, values),
        st.builds("--{}={}".format, name, values),
        st.builds("--{}".format, name),
        st.builds("--no{}".format, name),
        st.builds("-{}={}".format, name, values),
        st.builds("--{}={}".format, words, values),
        values,
    )


def lines(
    flags_of: Sequence[str], good: Sequence[str], begin: Sequence[Sequence[str]] = ((),)
) -> st.SearchStrategy[list[str]]:
    """Command lines of odd arguments among good ones. begin: what they may begin with."""
    some_good = st.lists(st.sampled_from(list(good)), max_size=5)
    odd = st.lists(_flag(flags_of), max_size=2)  # more would hide one another
    mixed = st.builds(operator.add, some_good, odd).flatmap(st.permutations)
    return st.builds(lambda first, rest: [*first, *rest], st.sampled_from(list(begin)), mixed)


# ---- commands with absl's flags, which are one table for all of a process

_of_command: dict[str, dict[str, Any]] = {}


def _module(name: str) -> Any:
    """The command's module, with its flags in the table and no other command's."""
    for other in ("main", "compare", "sweep"):
        if other != name and f"experiments.{other}" in sys.modules:
            for flag in _own_flags(other):
                if flag in flags.FLAGS:
                    delattr(flags.FLAGS, flag)
    module = importlib.import_module(f"experiments.{name}")
    _own_flags(name)
    for flag, declared in _of_command[name].items():
        if flag not in flags.FLAGS:
            flags.FLAGS[flag] = declared
    return module


def _own_flags(name: str) -> dict[str, Any]:
    """Those that the command's module, which is imported, has declared."""
    if name not in _of_command:
        declared = flags.FLAGS.get_flags_for_module(f"experiments.{name}")
        _of_command[name] = {flag.name: flag for flag in declared}
    return _of_command[name]


@contextlib.contextmanager
def _fresh_flags() -> Iterator[None]:
    """Values, and whether they were given, as at a process's start."""
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    yield


@contextlib.contextmanager
def in_folder() -> Iterator[pathlib.Path]:
    """A new working folder, and a home and caches in it; the hub is out of reach."""
    here = pathlib.Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        places = {"HOME": folder, "XDG_CACHE_HOME": f"{folder}/cache", "HF_HOME": f"{folder}/hf"}
        os.chdir(folder)
        try:
            with mock.patch.dict(os.environ, places):
                yield pathlib.Path(folder)
        finally:
            os.chdir(here)


def _absl(name: str, arguments: Sequence[str], prepare: Callable[[Any], contextlib.AbstractContextManager]) -> None:
    from experiments import cli

    module = _module(name)
    argv = [f"{name}.py", *arguments]

    def call() -> None:
        if name == "sweep":  # its first word is a command
            named = arguments[:1] if arguments[:1] and not arguments[0].startswith("-") else []
            command = named[0] if named else "run"
            if command not in module.COMMANDS:
                cli.fail(module.UserError(f"Unknown command {command!r}.{module.suggest(command, module.COMMANDS)}"))
            main = lambda rest: module.main(rest, command)
            app.run(main, argv=[argv[0], *arguments[len(named) :]], flags_parser=cli.parse)
        app.run(module.main, argv=argv, flags_parser=cli.parse)

    with _fresh_flags(), in_folder(), prepare(module), mock.patch.object(sys, "argv", argv):
        outcome(call)


def _start(config: Any) -> None:
    """In place of a run: what is printed must mean the same again, and the agent must be one that can be made."""
    import agents
    import envs
    from experiments import config as configuration
    from experiments.training.replica import agent_config, spec_of

    flat = configuration.flatten(config)
    texts = {key: configuration._text(value) for key, value in flat.items()}
    derived = {"agent_name", "env", "protocol", "tasks", "run.seeds", "data.fingerprint", "bc.fingerprint"}
    again = configuration.resolve(
        agent=config.agent_name,
        env=config.env,
        protocol=config.protocol,
        tasks=",".join(map(str, config.tasks)),
        seeds=[str(seed) for seed in config.run.seeds],
        overrides={key: text for key, text in texts.items() if key not in derived},
    )
    same(configuration.flatten(again), flat, "the printed configuration")
    if len(configuration.as_text(config).splitlines()) != len(flat):
        raise Fault("a setting takes more than a line")
    if max([*(config.agent.hidden_dims or ()), config.agent.num_critics]) < 10_000:  # others run out of memory
        for values in configuration.variants(config)[:1]:
            own = {**config.agent, **{key.removeprefix("agent."): value for key, value in values.items()}}
            spec = spec_of(envs.DOMAINS[config.env])
            made = agent_config(config.agent_name, config, own)
            create = functools.partial(agents.AGENTS[config.agent_name].create, spec=spec, config=made)
            jax.eval_shape(create, jax.random.key(0))
    raise Started


@contextlib.contextmanager
def _stopped_at_the_run(module: Any) -> Iterator[None]:
    with mock.patch("experiments.training.run.run", _start), mock.patch("trqam_jax.backend.keep_compiled_programs"):
        yield


@contextlib.contextmanager
def _stopped_at_the_jobs(module: Any) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise Started

    with (
        mock.patch("experiments.sweeps.launch.on_this_machine", stop),
        mock.patch("experiments.sweeps.launch.on_slurm", stop),
    ):
        yield


# ---- commands with argparse


def _argparse(main: Callable[[], Callable[[list[str]], Any]], arguments: Sequence[str], runs: bool = True) -> None:
    with in_folder() as folder:
        if runs:
            write_run(folder / "runs/a", agent="trqam")
            write_run(folder / "runs/b", agent="qam")
        call = main()
        outcome(call, list(arguments))


def _experiment(name: str) -> Callable[[], Callable[[list[str]], Any]]:
    return lambda: importlib.import_module(f"experiments.{name}").main


def _stop(*_: Any, **__: Any) -> None:
    raise Started


def _play_figures(arguments: list[str]) -> None:
    with mock.patch("experiments.figures.draw", _stop):
        _argparse(_experiment("figures"), arguments)


def _play_exact(arguments: list[str]) -> None:
    with mock.patch("experiments.exact.run", _stop), mock.patch("experiments.exact.keep_compiled_programs"):
        _argparse(_experiment("exact"), arguments, runs=False)


def _play_push(arguments: list[str]) -> None:
    with mock.patch("trqam_jax.hub.push", _stop):
        _argparse(_experiment("policy"), arguments)


def _play_envs(command: str) -> Callable[[list[str]], None]:
    def play(arguments: list[str]) -> None:
        from envs import commands

        def main() -> Callable[[list[str]], None]:
            def call(argv: list[str]) -> None:
                with mock.patch.object(sys, "argv", [f"envs.{command}", *argv]):
                    commands.hand_over(command)

            return call

        with (
            mock.patch("envs.downloads.fetch_all", _stop),
            mock.patch("trqam_jax.places.list_hub", _stop),
            mock.patch("envs.ogbench.generate.play_all", _stop),
            mock.patch("envs.robomimic.generate.play_all", _stop),
        ):
            _argparse(main, arguments, runs=False)

    return play


# ---- kinds


def _names_of_settings() -> list[str]:
    import agents
    from experiments import config as configuration

    keys = {key for name in agents.AGENTS for key in configuration.declared(name)}
    derived = (
        "agent_name",
        "env",
        "protocol",
        "tasks",
        "run.seeds",
        "nothing",
        "agent",
        "agent.",
        ".",
        "data.fingerprint",
    )
    return [*configuration.flags(), *(f"config.{key}" for key in (*sorted(keys), *derived))]


_COMMON = ["env", "tasks", "seeds", "num_seeds", "protocol"]
_GOOD = [
    "--env=cube-single-task1", "--env=cube-single", "--protocol=quick", "--protocol=qam", "--tasks=1,2", "--tasks=all",
    "--seeds=1,2", "--num_seeds=3", "--bc_steps=0", "--offline_steps=0", "--online_steps=10000", "--dataset=generate",
    "--config.agent.kl_budget=0.5,1", "--config.agent.hidden_dims=32,32", "--env=robomimic-can", "--balanced_sampling",
]  # fmt: skip
_OF_SWEEP = ["agents", "envs", "suite", "max_replicas", "engine", "jobs", "gpus", "slurm", "dry_run", "benchmark"]
_GOOD_OF_SWEEP = [
    "--envs=cube-single,scene", "--suite=ogbench50", "--dry_run", "--engine=slurm", "--slurm=partition=gpu",
    "--slurm=time=5", "--max_replicas=2",
]  # fmt: skip


def kinds() -> dict[str, Kind]:
    """By name. A function, because the names of all settings take JAX."""
    from agents import AGENTS

    settings = _names_of_settings()
    agents_lists = [f"--agents={name}" for name in ("trqam,qam", "trqam,trqam", "bc,fql,dsrl", "trqam")]
    envs_good = ["--env=cube-single", "--env=puzzle-4x4", "--env=robomimic-can", "--env=scene", "--list", "--shards=10"]
    table = ["format", "published", "released", "release", "phase", "step", "value", "last", "per_task", "statistics"]
    table += ["bootstrap_seed", "mixed"]
    return {
        "commands: main": Kind(
            lines(["agent", "list", "help", *_COMMON, *settings], [*_GOOD, *(f"--agent={name}" for name in AGENTS)]),
            lambda line: _absl("main", line, _stopped_at_the_run),
        ),
        "commands: compare": Kind(
            lines(["agents", *_COMMON, *settings], [*_GOOD, *agents_lists]),
            lambda line: _absl("compare", line, _stopped_at_the_run),
        ),
        "commands: sweep": Kind(
            lines(
                [*_OF_SWEEP, *_COMMON, *settings],
                [*_GOOD[1:], *agents_lists, *_GOOD_OF_SWEEP],
                ((), ("run",), ("status",), ("retry",), ("--envs=cube-single",)),
            ),
            lambda line: _absl("sweep", line, _stopped_at_the_jobs),
        ),
        "commands: table": Kind(
            lines(table, ["runs", "runs/a", "--published=trqam_paper", "--mixed", "--statistics", "--format=csv"],
                  ((), ("runs",), ("--published=qam_paper",))),
            lambda line: _argparse(_experiment("table"), _no_downloads(line)),
        ),
        "commands: figures": Kind(
            lines(["released", "out", "only"], ["runs", "--out=figures", "--only=curves", "--only=kl,curves"]),
            lambda line: _play_figures(_no_downloads(line)),
        ),
        "commands: report": Kind(
            lines(["out", "published", "step", "mixed"], ["runs", "--out=report.html", "--mixed"], ((), ("runs",))),
            lambda line: _argparse(_experiment("report"), line),
        ),
        "commands: export": Kind(
            lines(["out", "release"], ["runs", "runs/a", "--out=results.pkl", "--release=trqam"], ((), ("runs/a",))),
            lambda line: _argparse(_experiment("export"), line),
        ),
        "commands: policy": Kind(
            lines(["out", "task", "seed", "variant", "env", "flow_steps", "private"], ["runs/a", "--out=policy", "a/b"],
                  (("export",), ("export", "runs/a"), ("push",), ("push", "runs/a"), ())),
            _play_push,
        ),
        "commands: exact": Kind(lines(["out", "help"], ["--out=figures"]), _play_exact),
        "commands: generate": Kind(
            lines(["env", "episodes", "seed", "out_dir", "workers", "episode_steps"],
                  ["--episodes=2", "--out_dir=data", "--env=pointmaze-medium", *envs_good]),
            _play_envs("generate"),
        ),
        "commands: convert": Kind(
            lines(["env", "shards", "tasks", "sparse"], ["shards", ".", *envs_good]), _play_envs("convert")
        ),
        "commands: download": Kind(
            lines(["env", "shards", "list", "verify", "remove", "dataset_dir", "mirror", "policies"], envs_good),
            _play_envs("download"),
        ),
    }  # fmt: skip


def _no_downloads(line: list[str]) -> list[str]:
    """Without what would be fetched."""
    from experiments.analysis.released import RELEASES

    return [argument for argument in line if not any(name in argument for name in RELEASES) or "=" not in argument
            or not argument.startswith("--released")]  # fmt: skip
