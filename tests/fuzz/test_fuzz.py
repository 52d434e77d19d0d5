"""A few cases of every kind, always the same ones, and those that `python -m benchmarks.fuzz` has found."""

import copy
import importlib
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks.fuzz.pickles import GOOD

CASES = 4  # of a kind
ARRAY = np.full((30, 8), 0.5)


def with_step(step):
    """A released checkpoint's tree with something else as its counter."""
    tree = copy.deepcopy(GOOD[0])
    tree["agent"]["network"]["step"] = step
    return tree


MODULES = ("pickles", "data_files", "tables", "checkpoints", "policies", "commands")

#: The smallest cases of the faults that were found.
FOUND = (
    # Memory or time without end, for a few bytes.
    ("pickles", "pickles: bombs", "memo, put"),
    ("pickles", "pickles: bombs", "bytearray8 of 2^30 bytes"),
    ("pickles", "pickles: bombs", "bytes of -1"),
    ("pickles", "pickles: bombs", "long4 of 2^31 - 1 bytes"),
    ("pickles", "pickles: bombs", "arrays that share their bytes"),
    ("pickles", "pickles: bombs", "laughs: a key"),
    ("pickles", "pickles: bombs", "laughs: in a set"),
    ("pickles", "pickles: bombs", "laughs: in a frozenset"),
    # A zip that says that it is encrypted.
    ("data_files", "npz: bytes", (("flip", 0.9863130051159351, 1), True)),
    # Arrays that are no rows of numbers.
    ("data_files", "npz: arrays", ("terminals", "as records", False)),
    ("data_files", "npz: arrays", ("terminals", "a single value", False)),
    ("data_files", "hdf5: arrays", ("actions", "a single value", 0)),
    ("data_files", "hdf5: parts", ("data/demo_1/obs/object", "nothing stored")),
    ("data_files", "hdf5: parts", ("data/demo_0", "number")),
    ("data_files", "hdf5: bytes", ("flip", 0.586128366434568, 1)),
    # A header that is none.
    ("tables", "runs: bytes", ("times.csv", ("flip", 0.0, 1), "resume")),
    # Values that no run writes.
    ("tables", "runs: cells", ("eval.csv", 0.5, 0.5, "inf", "export")),
    ("tables", "runs: JSON values", ("config.json", 0.96875, 10**400, "export")),
    ("tables", "runs: other JSON", ("config.json", "[" * 100_000, "export")),
    ("tables", "published tables", ("trqam_paper", ("flip", 0.0, 1))),
    ("tables", "runs: JSON values", ("config.json", 0.0, "\ud800", "report")),
    # A stranger's files: other types than expected, and what has no end.
    ("checkpoints", "checkpoints: meta", {"files": []}),
    ("checkpoints", "checkpoints: meta", {"files": {"/dev/zero": "0"}}),
    ("checkpoints", "checkpoints: meta", {"seeds": "x"}),
    ("policies", "policies: files", ("policy.safetensors", "a device")),
    # A policy that nobody could load.
    ("checkpoints", "checkpoints: exports", ["--flow_steps=-1"]),
    ("commands", "commands: table", ["runs", "--mixed", "--statistics", "--bootstrap_seed=-1"]),
    # A domain by two names, and a counter that is none.
    (
        "pickles",
        "pickles: damaged ones",
        pickle.dumps({(name, "A"): ARRAY for name in ("cube-single", "cube-single-play")}),
    ),
    ("pickles", "pickles: damaged ones", pickle.dumps(with_step([[1], [2, 3]]))),
    # Letters that steer a terminal, and a name that is none.
    ("commands", "commands: table", ["-format=\x1f"]),
    ("commands", "commands: compare", ["--num_seeds", "--agents=\u202eevil"]),
    ("commands", "commands: report", ["runs", "--out="]),
)


def played_by(kind):
    def play(case):
        kind.play(case)

    return play


def kinds_of(module):
    found = importlib.import_module(f"benchmarks.fuzz.{module}")
    return found.kinds() if hasattr(found, "kinds") else found.KINDS


@pytest.mark.parametrize("module", MODULES)
def test_every_case_ends_in_one_line_or_the_right_result(module):
    for kind in kinds_of(module).values():
        few = settings(
            max_examples=CASES, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )  # fmt: skip
        few(given(kind.cases)(played_by(kind)))()


@pytest.mark.parametrize(("module", "name", "case"), FOUND, ids=lambda value: value if isinstance(value, str) else "")
def test_what_was_found_stays_mended(module, name, case):
    kinds = kinds_of(module)
    if name not in kinds and name.startswith("hdf5"):
        pytest.skip("h5py reads the files")
    kinds[name].play(case)
