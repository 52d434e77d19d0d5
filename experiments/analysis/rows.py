"""The one reader of what runs leave behind: their settings, and train.csv and eval.csv as pandas frames.

A frame has the columns of its file, floats exactly as they were written, and these:

    task        an integer; NO_TASK in rows of behaviour cloning, which uses no reward
    status      "ok", or DIVERGED once a replica's losses were not finite
    variant     in which settings a replica differs from others, like "inv_temp=3.0, kl_budget=0.5"; may be empty
    method      how tables and figures call the agent, with the variant if there is one
    total_step  updates since behaviour cloning (0 in its rows): online steps count on from the run's offline ones, or
                without any, of a method that is trained online alone, from the protocol's: beside those of other
                methods, as the QAM paper's release has them
"""

import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.analysis.row_files import Table, read_tables
from experiments.row_format import BC_PREFIX, OK, flatten, is_aside, parse_variant, variant_text
from trqam_jax.errors import UserError
from trqam_jax.files import read_json

MISSING = "missing"  # of a released file: not evaluated at this step

#: As the papers spell them, where that is not the agent's name in capitals.
METHODS = {
    "qam_edit": "QAM-E",
    "qam_fql": "QAM-F",
    "cgql_mse": "CGQL-M",
    "cgql_linex": "CGQL-L",
    "trqam_external": "TRQAM, external KL",
    "fedit": "FEdit",
    "rebrac": "ReBRAC",
}


def label(agent: str, settings: Mapping[str, Any]) -> str:
    """How tables and figures call a method, with the settings that tell its variants apart: QAM-E (inv_temp=3.0)."""
    name = METHODS.get(agent, agent.upper().replace("_", "-"))
    return f"{name} ({variant_text(settings)})" if settings else name


# ---- runs


@dataclass(frozen=True, eq=False)
class Run:
    """One run's folder. The module's docstring says what the frames `eval` and `train` hold."""

    folder: pathlib.Path
    config: Mapping[str, Any]  # flat, {"section.key": value}, without the notes on sources
    versions: Mapping[str, str]
    finished: bool
    differing: Mapping[str, Any]  # settings in which it differs from the other runs of its agent, domain and protocol
    tables: "_Tables" = field(repr=False)  # of the runs that were read with it, itself among them

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.config["agent_name"]

    @property
    def offline_steps(self) -> int:
        """How many updates come before the online phase, or would in another method (see `total_step`)."""
        from experiments.config import usual_offline_steps

        own = self.config["train.offline_steps"]
        return own or usual_offline_steps(self.agent, self.config["protocol"])

    @property
    def eval(self) -> pd.DataFrame:
        """One row per evaluation and replica."""
        return self.tables.of(self, "eval.csv").rows

    @property
    def train(self) -> pd.DataFrame:
        """One row per interval of training and replica: means over its updates. Empty before the first is over."""
        return self.tables.of(self, "train.csv").rows

    @property
    def variants(self) -> dict[str, dict[str, Any]]:
        """For every text of the column `variant` of `eval` the settings that it names."""
        return self.tables.of(self, "eval.csv").variants


class _Rows(NamedTuple):
    """A run's rows, and for every text of their column `variant` the settings that it names."""

    rows: pd.DataFrame
    variants: dict[str, dict[str, Any]]


class _Tables:
    """The tables of runs that were found together, each read for all of them when one of them is asked for it: a frame
    takes pandas milliseconds, however short it is."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._read: dict[str, dict[Run, _Rows]] = {}

    def of(self, run: Run, name: str) -> _Rows:
        """The run's table of this name."""
        if name not in self._read:
            self._read[name] = dict(self._read_all(name))
        return self._read[name][run]

    def _read_all(self, name: str) -> Iterator[tuple[Run, _Rows]]:
        for table in read_tables([(run.folder / name, run.finished) for run in self.runs]):
            runs = [self.runs[number] for number in table.files]
            _check_own(runs, table, name)
            rows, variants = _with_meaning(runs, table)
            for run, own, some in zip(runs, table.parts(rows), variants, strict=True):
                yield run, _Rows(own, some)


def _check_own(runs: Sequence[Run], table: Table, name: str) -> None:
    """UserError if rows name another agent or environment than the configuration beside them."""
    owner = np.repeat(np.arange(len(runs)), table.sizes)
    for column, key in (("agent", "agent_name"), ("env", "env")):
        if column not in table.rows:
            continue
        said = np.array([run.config[key] for run in runs], object)[owner]
        for row in np.flatnonzero(table.rows[column].to_numpy() != said)[:1]:
            found = table.rows[column].iloc[row]
            raise UserError(
                f"{runs[int(owner[row])].folder}: {name} has rows of the {column} {found!r:.60}, "
                f"config.json says {said[row]!r:.60}; one of the files was edited or is another run's: mend it"
            )


def _with_meaning(runs: Sequence[Run], table: Table) -> tuple[pd.DataFrame, list[dict[str, dict[str, Any]]]]:
    """The rows with the columns `variant`, `method` and `total_step`, and each run's variants. table: of these runs."""
    rows = table.rows if "variant" in table.rows else table.rows.assign(variant="")
    owner = np.repeat(np.arange(len(runs)), table.sizes)
    codes, found = pd.factorize(rows.variant)
    texts = [str(text) for text in found]
    kinds, kind = np.unique(owner * max(1, len(texts)) + codes, return_inverse=True)
    variants: list[dict[str, dict[str, Any]]] = [{} for _ in runs]
    names, methods = [], []
    for which, code in zip(*np.divmod(kinds, max(1, len(texts))), strict=True):
        settings = {**runs[which].differing, **parse_variant(texts[code])}
        names.append(variant_text(settings))
        methods.append(label(runs[which].agent, settings))
        variants[which][names[-1]] = settings
    offline = np.array([run.offline_steps for run in runs], int)[owner]
    own = {
        "variant": pd.Series(np.array(names, object)[kind], rows.index, dtype="str"),
        "method": pd.Series(np.array(methods, object)[kind], rows.index, dtype="str"),
        "total_step": rows.step.where(rows.phase != "bc", 0) + offline * (rows.phase == "online"),
    }
    return rows.assign(**own), variants


def read_run(folder: pathlib.Path) -> Run:
    """The run in this folder, alone: `variant` and `method` name only what it sweeps itself."""
    (run,) = _runs([folder], [_read_config(folder)], [{}])
    return run


def read_runs(paths: Iterable[pathlib.Path]) -> list[Run]:
    """The runs in these folders or below them, each once, in the order of their paths; a UserError if there is none.

    `variant` and `method` tell the runs apart. Stages of behaviour cloning are left out: they hold no evaluation. So is
    what --resume=never has set aside.
    """
    folders = _find(paths)
    configs = [_read_config(folder) for folder in folders]
    return _runs(folders, configs, _differences(configs))


def _runs(
    folders: Sequence[pathlib.Path], configs: Sequence[dict[str, Any]], differing: Sequence[dict[str, Any]]
) -> list[Run]:
    tables = _Tables()
    for folder, config, own in zip(folders, configs, differing, strict=True):
        versions = read_json(folder / "versions.json", ("trqam_jax", "jax"))
        tables.runs.append(Run(folder, config, versions, (folder / "DONE").exists(), own, tables))
    for run in tables.runs[:1]:
        _ = run.eval  # damage is named when runs are read, not when something is made of them
    return list(tables.runs)


def _find(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    folders: dict[pathlib.Path, pathlib.Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder; expected a run's folder or a parent of some")
        found = [folder for folder in _run_folders(path) if not folder.name.startswith(f"{BC_PREFIX}-")]
        left = [folder for folder in found if not is_aside(folder)]
        if not left:
            reason = "a run's folder holds config.json and eval.csv"
            if found:
                reason = f"{found[0].name} was set aside by --resume=never; give it another name to have it read"
            raise UserError(f"{path}: no run there; {reason}")
        found = left
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    return [*folders.values()]


def _run_folders(root: pathlib.Path) -> list[pathlib.Path]:
    """The folders below that hold config.json and eval.csv, also behind links; each folder is looked into once."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a run that goes on renames and removes its checkpoints
            raise error

    found, seen = [], set()
    for place, folders, files in os.walk(root, followlinks=True, onerror=fail):
        folder = pathlib.Path(place)
        folders.sort()  # of a folder and a link to it the same one is read on every machine
        if folder.resolve() in seen:
            folders.clear()
            continue
        seen.add(folder.resolve())
        if {"config.json", "eval.csv"} <= set(files):
            found.append(folder)
    return sorted(found)


def _read_config(folder: pathlib.Path) -> dict[str, Any]:
    from experiments.config import check_stored

    config = read_json(folder / "config.json", ("agent_name", "env", "protocol", "tasks", "run", "train"))
    config.pop("notes", None)
    check_stored(folder / "config.json", config)
    return flatten(config)


def _differences(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each run the settings in which runs of its agent, domain and protocol differ, like {"kl_budget": 0.5}.

    Settings that a run sweeps are in its column `variant`.
    """
    from experiments.config import changes_results, swept

    alike: dict[tuple[str, ...], list[int]] = {}
    for number, config in enumerate(configs):
        alike.setdefault((config["agent_name"], config["env"], config["protocol"]), []).append(number)
    results: list[dict[str, Any]] = [{} for _ in configs]
    for numbers in alike.values():
        own = [configs[number] for number in numbers]
        told = filter(changes_results, dict.fromkeys(key for config in own for key in config))
        differing = [key for key in told if any(config.get(key) != own[0].get(key) for config in own)]
        for number, config in zip(numbers, own, strict=True):
            names = config.keys() & set(differing) - swept(config).keys()
            results[number] = {key.removeprefix("agent."): config[key] for key in differing if key in names}
    return results


def groups(rows: pd.DataFrame, by: str | list[str], *, sort: bool = False) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Each value of the columns `by`, nan among them, with its rows; in the order of their appearance unless `sort`."""
    yield from rows.groupby(by, sort=sort, dropna=False)


# ---- results


class Source(NamedTuple):
    """Results of one protocol in one phase.

    rows: a frame of method, env, task, seed, step, success (a fraction) and status, one row per replica and
    evaluation. `step` is a run's `total_step`. The task is NO_TASK where only the mean over a domain's
    tasks is known.
    """

    name: str
    protocol: str
    num_seeds: int  # of a complete cell
    rows: pd.DataFrame
    limits: Mapping[str, set[int | None]] = {}  # {env: the episode limits that its runs set; None is the domain's own}


REPLICA = ["method", "env", "task", "seed"]  # what a replica's rows are found by
COLUMNS = [*REPLICA, "step", "success", "status"]


def sources(runs: list[Run], phase: str) -> list[Source]:
    """One for each protocol. Every seed that a run of the protocol has or was to have belongs to a complete cell.

    The agent bc has only its own evaluation, which holds at every step of the others. A UserError if a row is there
    twice with different values, if a success is no fraction, or if nothing of the phase is there.
    """
    result = []
    for protocol in dict.fromkeys(run.config["protocol"] for run in runs):
        own = [run for run in runs if run.config["protocol"] == protocol]
        evals = pd.concat([run.eval for run in own], ignore_index=True)
        evals["folder"] = np.repeat([str(run.folder) for run in own], [len(run.eval) for run in own])
        evals["step"] = evals.total_step.where(evals.phase != "bc", evals.step)
        evals = _without_copies(evals)
        _check_fractions(evals)
        rows = _of_phase(evals, phase)
        if rows.empty:
            phases = ", ".join(sorted(evals.phase.unique()))
            raise UserError(
                f"no evaluation of phase {phase!r} under protocol {protocol}; phases: {phases or 'none yet'}"
            )
        seeds = {*evals.seed, *(seed for run in own for seed in run.config["run.seeds"])}
        limits: dict[str, set[int | None]] = {}
        for run in own:
            limits.setdefault(run.config["env"], set()).add(run.config.get("eval.episode_limit"))
        result.append(Source("ours", protocol, len(seeds), rows[COLUMNS].reset_index(drop=True), limits))
    return result


def _without_copies(evals: pd.DataFrame) -> pd.DataFrame:
    """Equal rows count once, whichever folders they are in; a UserError if they are not equal."""
    key = [*REPLICA, "phase", "step"]
    distinct = evals.drop_duplicates([column for column in evals if column not in ("folder", "variant")])
    if (again := distinct.duplicated(key)).any():
        row = distinct[again].iloc[0]
        first = distinct[(distinct[key] == row[key]).all(axis=1)].iloc[0]
        files = " and ".join(str(pathlib.Path(folder) / "eval.csv") for folder in (first.folder, row.folder))
        what = f"{row.method}, {row.env}, {row.task}, {row.seed}, {row.phase} step {row.step}"
        raise UserError(f"{files} differ in {what}")
    return distinct


def _check_fractions(evals: pd.DataFrame) -> None:
    wrong = evals[(evals.status == OK) & ~evals.success.between(0, 1)]
    for _, row in wrong.iterrows():
        path = pathlib.Path(str(row.folder)) / "eval.csv"
        raise UserError(f"{path}: success {row.success} at step {row.step}, expected a fraction from 0 to 1")


def _of_phase(evals: pd.DataFrame, phase: str) -> pd.DataFrame:
    is_bc = evals.agent == "bc"
    rows = evals[(evals.phase == phase) & ~is_bc]
    policies = evals[is_bc]
    if not rows.empty:
        steps = pd.DataFrame({"step": sorted(rows.step.unique())})
        last = policies.sort_values("step", kind="stable").drop_duplicates(REPLICA, keep="last").sort_index()
        policies = last.drop(columns="step").merge(steps, how="cross")
    return pd.concat([rows, policies])


def mixtures(runs: list[Run], others: Mapping[str, str]) -> list[str]:
    """What should not stand in one table, in words that name it: several protocols, several versions.

    others: {where: protocol} of results that are no runs.
    """
    protocols = {run.config["protocol"]: str(run.folder) for run in runs}
    protocols |= {protocol: where for where, protocol in others.items()}
    versions = {f"trqam_jax {run.versions['trqam_jax']} with jax {run.versions['jax']}": run.folder for run in runs}
    return [
        f"mixed {what}: " + " and ".join(f"{value} ({place})" for value, place in places.items())
        for what, places in (("protocols", protocols), ("versions", versions))
        if len(places) > 1
    ]


def name_unfinished(runs: list[Run]) -> None:
    """A line on stderr for every run that goes on or was interrupted."""
    for run in runs:
        if not run.finished:
            last = "none" if run.eval.empty else "{phase} {step:,}".format(**run.eval.iloc[-1])
            print(f"unfinished: {run.folder}, last evaluation: {last}", file=sys.stderr)
