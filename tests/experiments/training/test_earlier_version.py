"""A run folder that version 0.1.0 left: resumed by this version, it lands on the same digest and continues its numbers.

tests/golden/run_of_version_0_1.tar.gz holds the data, the BC stage and the run (two KL budgets, 40 offline updates,
finished), and in expected/ the rows that version 0.1.0 wrote when it continued to 60 updates and 20 online steps.
"""

import pathlib
import tarfile

import numpy as np
import pytest

from experiments import config as configuration
from experiments.analysis.rows import read_run
from experiments.analysis.summary import summarise
from experiments.training.csv_rows import read_csv
from experiments.training.run import run
from experiments.training.stages import BC, FINE_TUNING

ARCHIVE = pathlib.Path(__file__).parents[2] / "golden" / "run_of_version_0_1.tar.gz"
SETTINGS = {
    "data.dataset": "data/cube-single-play-v0.npz",
    "bc.steps": 20,
    "train.log_interval": 20,
    "train.save_interval": 20,
    "train.offline_steps": 60,
    "eval.interval": 40,
    "eval.episodes": 1,
    "online.start_training": 10,
    "online.save_interval": 20,
    "online.steps": 20,
    "run.out_dir": "runs",
}
OVERRIDES = {
    "agent.kl_budget": "0.5,1",
    "agent.hidden_dims": "8,8",
    "agent.flow_steps": "2",
    "train.batch_size": "16",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The archive's content, and the working directory."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def make_config(**settings):
    return configuration.resolve(
        agent="trqam",
        env="cube-single-task1",
        protocol="quick",
        seeds=["7"],
        settings={**SETTINGS, **settings},
        overrides=OVERRIDES,
    )


def lines(path):
    return path.read_text().splitlines()


def test_it_is_continued_under_the_same_digests(place, capsys):
    earlier = {path.parent for path in place.glob("runs/default/cube-single/*/config.json")}
    (before,) = [folder for folder in earlier if folder.name.startswith("trqam-")]
    rows = {table: lines(before / f"{table}.csv") for table in ("train", "eval")}
    folder = run(make_config())
    assert "going on from" in capsys.readouterr().out
    assert {path.parent for path in place.glob("runs/default/cube-single/*/config.json")} == earlier
    assert folder.resolve() == before
    for table, written in rows.items():
        expected = read_csv(place / "expected" / f"{table}.csv")
        assert lines(folder / f"{table}.csv")[: len(written)] == written
        found = read_csv(folder / f"{table}.csv")
        assert [list(row) for row in found] == [list(row) for row in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert_same_row(ours, theirs)


def assert_same_row(ours, theirs):
    """Texts are equal; another processor rounds numbers otherwise."""
    for column, text in theirs.items():
        try:
            number = float(text)
        except ValueError:
            assert ours[column] == text, column
            continue
        np.testing.assert_allclose(float(ours[column]), number, rtol=2e-3, atol=1e-5, err_msg=column)


def test_the_digests_are_those_of_the_folders(place):
    folder = next(place.glob("runs/default/cube-single/trqam-*"))
    stored = read_run(folder).config
    config = make_config()
    found = configuration.with_fingerprints(config, data=stored["data.fingerprint"], checkpoint="")
    assert FINE_TUNING.folder(found).resolve() == folder
    assert BC.folder(BC.config(found)).resolve() == next(place.glob("runs/default/cube-single/cloned-*"))


def test_its_rows_read(place):
    folder = next(place.glob("runs/default/cube-single/trqam-*"))
    text = summarise(folder)
    assert "kl_budget=0.5" in text
