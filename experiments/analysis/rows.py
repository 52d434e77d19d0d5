"""The one reader of what runs leave behind: their settings, and train.csv and eval.csv as pandas frames.

A frame has the columns of its file, floats exactly as they were written, and these:

    task        an integer; NO_TASK in rows of behaviour cloning, which uses no reward
    status      "ok", or DIVERGED once a replica's losses were not finite
    variant     in which settings a replica differs from others, like "inv_temp=3.0, kl_budget=0.5"; may be empty
    method      how tables and figures call the agent, with the variant if there is one
    total_step  updates since behaviour cloning (0 in its rows): online steps count on from the run's offline ones, or
                without any, of a method that is trained online alone, from the protocol's: beside those of other
                methods, as the QAM paper's release has them

It imports JAX only inside functions, so that the last steps of many runs are read at once.
"""

import csv
import io
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from experiments.row_format import BC_PREFIX, DIVERGED, OK, PHASES, is_aside, parse_variant, variant_text
from trqam_jax.errors import UserError
from trqam_jax.files import read_json

NO_TASK = 0  # suites count their tasks from 1
_EARLIER = {"frozen": DIVERGED}  # as the column `status` of version 0.1 has it
MISSING = "missing"  # of a released file: not evaluated at this step

_TEXTS = ("env", "agent", "phase", "status", "variant")
_INTEGERS = ("task", "seed", "step", "episodes")
_NEEDED = {
    "train.csv": ("task", "seed", "phase", "step"),
    "eval.csv": ("env", "task", "agent", "seed", "phase", "step", "success", "status"),
}

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

    @cached_property
    def eval(self) -> pd.DataFrame:
        """One row per evaluation and replica."""
        return self._with_meaning(self._evals)

    @cached_property
    def train(self) -> pd.DataFrame:
        """One row per interval of training and replica: means over its updates. Empty before the first is over."""
        return self._with_meaning(self._read("train.csv"))

    @cached_property
    def variants(self) -> dict[str, dict[str, Any]]:
        """For every text of the column `variant` of `eval` the settings that it names."""
        return {variant_text(settings): settings for settings in self._settings(self._evals).values()}

    @cached_property
    def _evals(self) -> pd.DataFrame:
        return self._read("eval.csv")

    def _read(self, name: str) -> pd.DataFrame:
        rows = _read_csv(self.folder / name, self.finished)
        return rows if "variant" in rows else rows.assign(variant="")

    def _settings(self, rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
        """For every text of the file's column `variant` what it names, and what sets the run apart from others."""
        return {text: {**self.differing, **parse_variant(text)} for text in rows.variant.unique()}

    def _with_meaning(self, rows: pd.DataFrame) -> pd.DataFrame:
        settings = self._settings(rows)
        return rows.assign(
            variant=rows.variant.map({text: variant_text(own) for text, own in settings.items()}).astype(str),
            method=rows.variant.map({text: label(self.agent, own) for text, own in settings.items()}).astype(str),
            total_step=rows.step.where(rows.phase != "bc", 0) + self.offline_steps * (rows.phase == "online"),
        )


def read_run(folder: pathlib.Path) -> Run:
    """The run in this folder, alone: `variant` and `method` name only what it sweeps itself."""
    return _run(folder, _read_config(folder), {})


def read_runs(paths: Iterable[pathlib.Path]) -> list[Run]:
    """The runs in these folders or below them, each once, in the order of their paths; a UserError if there is none.

    `variant` and `method` tell the runs apart. Stages of behaviour cloning are left out: they hold no evaluation. So is
    what --resume=never has set aside.
    """
    folders = _find(paths)
    configs = [_read_config(folder) for folder in folders]
    differing = _differences(configs)
    return [_run(*parts) for parts in zip(folders, configs, differing, strict=True)]


def _run(folder: pathlib.Path, config: dict[str, Any], differing: dict[str, Any]) -> Run:
    versions = read_json(folder / "versions.json", ("trqam_jax", "jax"))
    run = Run(folder, config, versions, _is_finished(folder), differing)
    _ = run.eval  # damage is named when runs are read, not when something is made of them
    return run


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
    from experiments.config import check_stored, flatten

    config = read_json(folder / "config.json", ("agent_name", "env", "protocol", "tasks", "run", "train"))
    config.pop("notes", None)
    check_stored(folder / "config.json", config)
    return flatten(config)


def _differences(configs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each run the settings in which runs of its agent, domain and protocol differ, like {"kl_budget": 0.5}.

    Settings that a run sweeps are in its column `variant`.
    """
    from experiments.config import changes_results, swept

    kinds = [(config["agent_name"], config["env"], config["protocol"]) for config in configs]
    results = []
    for kind, config in zip(kinds, configs, strict=True):
        alike = [other for other_kind, other in zip(kinds, configs, strict=True) if other_kind == kind]
        told = [key for key in config if changes_results(key) and key not in swept(config)]
        differing = [key for key in told if any(other.get(key) != config[key] for other in alike)]
        results.append({key.removeprefix("agent."): config[key] for key in differing})
    return results


def last_step(folder: pathlib.Path) -> tuple[str, int] | None:
    """Phase and step of the last row of the run's train.csv; None before there is one. Imports no JAX."""
    rows = _read_csv(folder / "train.csv", _is_finished(folder))
    return None if rows.empty else (rows.phase.iloc[-1], int(rows.step.iloc[-1]))


# ---- files


def _is_finished(folder: pathlib.Path) -> bool:
    return (folder / "DONE").exists()


def _read_csv(path: pathlib.Path, finished: bool) -> pd.DataFrame:
    """The file's typed rows; none if it is not there yet. A UserError names the file and the line that is damaged."""
    try:
        text = _whole_lines(path, finished) or ",".join(_NEEDED[path.name]) + "\n"
        lines = [(number, fields) for number, fields in enumerate(csv.reader(io.StringIO(text)), start=1) if fields]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: damaged, no CSV ({error})") from None
    (_, columns), *lines = lines
    if missing := [column for column in _NEEDED[path.name] if column not in columns]:
        raise UserError(f"{path}: damaged, it has no column {', '.join(missing)}")
    # pandas would fill up a line that is too short.
    torn = next(((number, fields) for number, fields in lines if len(fields) != len(columns)), None)
    rows = None if torn else _typed(text, columns)
    if rows is None or not rows.phase.isin(PHASES).all():
        number, fields = torn or next((n, fields) for n, fields in lines if not _is_sound(columns, fields))
        raise UserError(f"{path}: damaged in line {number}: {','.join(fields)!r:.120}")
    return rows


def _whole_lines(path: pathlib.Path, finished: bool) -> str:
    """While a run goes on its last line may be half written: it is left out."""
    data = path.read_bytes() if path.exists() else b""
    return (data if finished else data[: data.rfind(b"\n") + 1]).decode()


def _typed(text: str, columns: list[str]) -> pd.DataFrame | None:
    """None if a number is none. A float that was left empty is nan; others are exact (as pandas reads since 3.1)."""
    types = {column: "str" if column in _TEXTS else "Int64" if column in _INTEGERS else "float64" for column in columns}
    try:
        rows = pd.read_csv(
            io.StringIO(text),
            dtype=types,
            index_col=False,
            keep_default_na=False,  # a text may be "None"
            na_values={column: ["", "nan"] for column in columns if column not in _TEXTS},
        )
        rows["task"] = rows.task.fillna(NO_TASK)
        if "status" in columns:
            rows["status"] = rows.status.replace(_EARLIER)
        for variant in rows.variant.unique() if "variant" in rows else ():
            parse_variant(variant)
        return rows.astype({column: "int64" for column in columns if column in _INTEGERS})
    except (ValueError, OverflowError):  # the latter of an infinite one
        return None


def _is_sound(columns: list[str], fields: list[str]) -> bool:
    """Whether a line can be read: the slow way, for the message."""
    row = dict(zip(columns, fields, strict=True))
    if row["phase"] not in PHASES:
        return False
    try:
        for column, field in row.items():
            if column in _INTEGERS and not (column == "task" and not field):
                int(field)
            elif column == "variant":
                parse_variant(field)
            elif column not in (*_TEXTS, "task") and field:
                float(field)
    except ValueError:
        return False
    return True


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
        evals = pd.concat([run.eval.assign(folder=str(run.folder)) for run in own], ignore_index=True)
        evals["step"] = evals.total_step.where(evals.phase != "bc", evals.step)
        evals = _without_copies(evals)
        _check_fractions(evals)
        rows = _of_phase(evals, phase)
        if rows.empty:
            phases = ", ".join(sorted(evals.phase.unique()))
            raise UserError(f"no evaluation of phase {phase!r} under protocol {protocol}; phases: {phases}")
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
