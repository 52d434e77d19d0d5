"""What runs left behind, read back as typed rows."""

import csv
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from experiments.config import REPLICA_AXES, changes_results, flatten
from experiments.training.csv_rows import read_csv
from trqam_jax.errors import UserError
from trqam_jax.files import read_json

Row = dict[str, Any]


class RunData(NamedTuple):
    """One run's folder. config is flat, {"section.key": value}, without the notes on sources."""

    folder: pathlib.Path
    config: dict[str, Any]
    versions: dict[str, str]
    finished: bool
    eval: list[Row]  # typed; `variant` is "" where the file has no such column


def read_runs(paths: Iterable[pathlib.Path]) -> list[RunData]:
    """The runs in these folders or below them, each once, in the order of their paths; a UserError if there is none.

    Cloning stages are left out: they hold no evaluation.
    """
    folders: dict[pathlib.Path, pathlib.Path] = {}
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such folder; expected a run's folder or a parent of some")
        found = [file.parent for file in sorted(path.rglob("config.json")) if (file.parent / "eval.csv").exists()]
        found = [folder for folder in found if not folder.name.startswith("cloned-")]
        if not found:
            raise UserError(f"{path}: no run there; a run's folder holds config.json and eval.csv")
        for folder in found:
            folders.setdefault(folder.resolve(), folder)
    return [_read_run(folder) for folder in folders.values()]


def read_train(folder: pathlib.Path) -> list[Row]:
    """The typed rows of train.csv; none if the run has not got that far. Cloning's task is the empty text."""
    return _read_rows(folder, "train.csv") if (folder / "train.csv").exists() else []


def _read_run(folder: pathlib.Path) -> RunData:
    config = read_json(folder / "config.json", ("agent_name", "env", "protocol", "tasks", "run"))
    config.pop("notes", None)
    rows = [{"variant": "", **row} for row in _read_rows(folder, "eval.csv")]
    versions = read_json(folder / "versions.json", ("trqam_jax", "jax"))
    return RunData(folder, flatten(config), versions, (folder / "DONE").exists(), rows)


_TEXTS = ("env", "agent", "phase", "status", "variant")
_WHOLE = ("task", "seed", "step", "episodes")


def _read_rows(folder: pathlib.Path, name: str) -> list[Row]:
    """Typed rows. While a run goes on its last line may be half written: it is left out."""
    path = folder / name
    try:
        rows = read_csv(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: damaged, no CSV ({error})") from None
    if rows and not (folder / "DONE").exists() and not path.read_bytes().endswith(b"\n"):
        rows.pop()
    typed = []
    for number, row in enumerate(rows, start=2):
        try:
            typed.append({key: _typed(key, text) for key, text in row.items()})
        except (TypeError, ValueError):
            raise UserError(f"{path}: damaged in line {number}: {','.join(map(str, row.values()))!r:.120}") from None
    return typed


def _typed(key: str, text: str) -> Any:
    """A number left empty is nan; the empty task stays."""
    if key in _TEXTS or (key == "task" and not text):
        return text + ""  # TypeError for a column that the line lacks
    read: Callable[[str], Any] = int if key in _WHOLE else float
    return read(text) if text else float("nan")


class Point(NamedTuple):
    """One evaluation of one replica; success is a fraction."""

    success: float
    status: str = "ok"


class Line(NamedTuple):
    """A replica, by its method's label. Task None: the mean over the domain's tasks, where no task's own is known."""

    method: str
    domain: str
    task: int | None
    seed: int


Curves = dict[Line, dict[int, Point]]  # by step; the online phase counts on from the offline one


class Source(NamedTuple):
    """Results of one protocol."""

    name: str
    protocol: str
    num_seeds: int  # of a complete cell
    curves: Curves


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


def method(agent: str) -> str:
    """How tables and figures call it."""
    return METHODS.get(agent, agent.upper().replace("_", "-"))


def mixtures(runs: list[RunData], others: Mapping[str, str]) -> list[str]:
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


def name_unfinished(runs: list[RunData]) -> None:
    """A line on stderr for every run that goes on or was interrupted."""
    for run in runs:
        if not run.finished:
            last = "{phase} {step:,}".format(**run.eval[-1]) if run.eval else "none"
            print(f"unfinished: {run.folder}, last evaluation: {last}", file=sys.stderr)


def sources(runs: list[RunData], phase: str) -> list[Source]:
    """One for each protocol. Every seed that a run of the protocol has or was to have belongs to a complete cell."""
    variants = dict(zip([run.folder for run in runs], _variants(runs), strict=True))
    result = []
    for protocol in dict.fromkeys(run.config["protocol"] for run in runs):
        own = [run for run in runs if run.config["protocol"] == protocol]
        seeds = {seed for run in own for seed in (*run.config["run.seeds"], *(row["seed"] for row in run.eval))}
        curves = _curves(own, variants, phase)
        if not curves:
            phases = sorted({row["phase"] for run in own for row in run.eval})
            raise UserError(f"no evaluation of phase {phase!r} under protocol {protocol}; phases: {', '.join(phases)}")
        result.append(Source("ours", protocol, len(seeds), curves))
    return result


def _variants(runs: list[RunData]) -> list[str]:
    """For each run the settings in which runs of its agent, domain and protocol differ, like "kl_budget=0.5"."""
    alike: dict[tuple, list[dict[str, Any]]] = {}
    settings = [{k: v for k, v in run.config.items() if changes_results(k)} for run in runs]
    kinds = [tuple(run.config[key] for key in ("agent_name", "env", "protocol")) for run in runs]
    for kind, own in zip(kinds, settings, strict=True):
        alike.setdefault(kind, []).append(own)
    texts = []
    for kind, own in zip(kinds, settings, strict=True):
        # Of what replicas differ in, the rows speak themselves.
        told = [k for k in own if k not in REPLICA_AXES or not isinstance(own[k], list)]
        differing = [k for k in told if any(other.get(k) != own[k] for other in alike[kind])]
        texts.append(", ".join(f"{k.removeprefix('agent.')}={own[k]}" for k in differing))
    return texts


def _curves(runs: list[RunData], variants: Mapping[pathlib.Path, str], phase: str) -> Curves:
    """Every replica's evaluations in the phase. The agent bc has only its own, which holds at every step of the others.

    A UserError if one row is there twice with different values, or is no fraction.
    """
    curves: Curves = {}
    cloned: Curves = {}
    seen: dict[tuple, tuple[str, pathlib.Path]] = {}
    for run in runs:
        path = run.folder / "eval.csv"
        for row in run.eval:
            variant = ", ".join(text for text in (variants[run.folder], row["variant"]) if text)
            name = f"{method(row['agent'])} ({variant})" if variant else method(row["agent"])
            line = Line(name, row["env"], row["task"], row["seed"])
            step = row["step"] + (run.config["train.offline_steps"] if row["phase"] == "online" else 0)
            values = repr({key: value for key, value in row.items() if key != "variant"})  # as text, for nan
            earlier, place = seen.setdefault((line, row["phase"], step), (values, path))
            if earlier != values:
                raise UserError(f"{place} and {path} differ in {', '.join(map(str, line))}, {row['phase']} step {step}")
            if row["status"] == "ok" and not 0 <= row["success"] <= 1:
                raise UserError(f"{path}: success {row['success']} at step {step}, expected a fraction from 0 to 1")
            if row["agent"] == "bc" or row["phase"] == phase:
                own = cloned if row["agent"] == "bc" else curves
                own.setdefault(line, {})[step] = Point(row["success"], row["status"])
    steps = sorted({step for curve in curves.values() for step in curve})
    return curves | {
        line: dict.fromkeys(steps, curve[max(curve)]) if steps else curve for line, curve in cloned.items()
    }
