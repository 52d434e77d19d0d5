"""The paired comparison, and that two methods under one seed really see the same."""

import errno
import functools
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from absl import flags
from made_runs import write_run

import agents
from experiments import compare
from experiments.analysis import compare as analysis
from experiments.analysis.rows import read_run
from experiments.training.csv_rows import read_csv
from trqam_jax.errors import UserError
from trqam_jax.replicas import create_replicas, load_pretrained
from trqam_jax.streams import stack_streams
from trqam_jax.update_loop import ReplicaData, SamplingConfig, one_update

#: The methods that match a flow to whole windows; RQL leaves out single actions instead.
FLOWS = [name for name, agent in agents.AGENTS.items() if agent.pretrained_networks and name not in ("bc", "rql")]
#: The methods whose critics value chunks alone, without a flow's time, from the same fresh weights.
CRITICS = [
    name
    for name, agent in agents.AGENTS.items()
    if name != "bc" and agent.family not in ("guidance", "flow-time critics")
]


@pytest.fixture(autouse=True)
def parsed_flags():
    flags.FLAGS(["compare", "--env=cube-single"], known_only=True)
    yield
    flags.FLAGS.unparse_flags()


@pytest.fixture(scope="module")
def program_of():
    """By method, the program of its first update, compiled once for all tests; it returns the update's info."""

    @functools.cache
    def program(name):
        source, sampling = ReplicaData(tiny.dataset(), jnp.int32(1)), SamplingConfig(batch_size=64)
        return jax.jit(jax.vmap(lambda agent, s: one_update(agent, source, s, jnp.int32(3), sampling)[1]))

    return program


@pytest.fixture
def first_update(program_of):
    """The info of a method's first update, of a replica of each seed; policy: of a BC policy to start from."""

    def first_update(name, streams, policy=None):
        made = create_replicas(agents.AGENTS[name], streams.init, tiny.SPEC, tiny.config(name))
        if policy is not None:
            made = load_pretrained(made, policy)
        return program_of(name)(made, streams)

    return first_update


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """What compares runs that are there, as the command does."""
    runs = {agent: write_run(tmp_path / f"{agent}-0", [{}], agent=agent) for agent in ("trqam", "fql")}
    monkeypatch.setattr("experiments.training.run.run", lambda config: runs[config.agent_name])
    monkeypatch.setattr("experiments.analysis.summary.summarise", lambda folder: str(folder))
    for name in ("keep_compiled_programs", "prepare_process"):
        monkeypatch.setattr(f"trqam_jax.backend.{name}", lambda: None)
    monkeypatch.setattr(compare, "AGENTS", types.SimpleNamespace(value=list(runs)))
    return lambda: compare.main(["compare.py"])


def test_what_cannot_be_written_is_one_line(compared, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    compared()
    table, figure = (tmp_path / f"comparison-trqam-0-fql-0.{ending}" for ending in ("csv", "png"))
    assert capsys.readouterr().out.endswith(f"{table}, {figure}\n")
    before = table.read_bytes()
    assert b"trqam" in before
    assert figure.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(analysis, "plot", full)
    with pytest.raises(SystemExit, match=r"^error: .*No space left on device"):
        compared()
    assert table.read_bytes() == before


def test_many_agents_have_one_file(tmp_path):
    folders = [tmp_path / f"{name}-01234567" for name in agents.AGENTS]
    success = {name: {1: 0.5} for name in agents.AGENTS}
    table, _ = compare.write(folders, analysis.comparison(success), success)
    assert len(read_csv(table)) == len(agents.AGENTS)


def test_every_method_sees_the_same_minibatches_and_flow_noise(subtests, first_update):
    """The first update's flow-matching loss depends on the BC flow, the minibatch and the flow noise alone: it is the
    same number in every method that learns its flow. Another draw of any of them would move it by percents."""
    streams = stack_streams([5], "offline")
    policy = create_replicas(agents.AGENTS["bc"], streams.init, tiny.SPEC, tiny.config("bc")).train.params["actor"]
    reference = first_update("trqam", streams, policy)["flow_loss"]
    for name in FLOWS:
        with subtests.test(name):
            loss = first_update(name, streams, policy)["flow_loss"]
            np.testing.assert_allclose(loss, reference, rtol=1e-5)
    moved = first_update("trqam", stack_streams([6], "offline"), policy)["flow_loss"]
    assert abs(moved - reference) > 1e-3 * reference


def test_methods_without_a_flow_see_the_same_minibatches(subtests, first_update):
    """The first update's mean critic at the data's chunks depends on the critics' fresh weights and the minibatch."""
    reference = first_update("trqam", stack_streams([5], "offline"))["q_mean"]
    for name in CRITICS:
        with subtests.test(name):
            q_mean = first_update(name, stack_streams([5], "offline"))["q_mean"]
            np.testing.assert_allclose(q_mean, reference, rtol=1e-5)
    moved = first_update("trqam", stack_streams([6], "offline"))["q_mean"]
    assert abs(moved - reference) > 1e-3 * abs(reference)


def test_rows():
    success = {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.4, 2: 0.6}}
    first, second = analysis.comparison(success)
    assert (first["mean"], first["std"], first["difference"]) == ("60.0", "14.1", "")
    assert (second["mean"], second["difference"], second["low"], second["high"]) == ("50.0", "10.0", "10.0", "10.0")
    assert second["p_improvement"] == "0.75"
    with pytest.raises(UserError, match="cannot be paired"):
        analysis.comparison({"a": {1: 0.5}, "b": {2: 0.5}})


def test_a_diverged_replica_is_never_averaged(tmp_path, capsys):
    """Its seed is left out of every agent's, and named."""
    rows = [(1, 1, 0.5, "ok"), (2, 1, 0.25, "ok"), (1, 2, 0.75, "ok"), (2, 2, 0.0, "diverged")]
    columns = ("task", "seed", "success", "status")
    folder = write_run(tmp_path / "a", [dict(zip(columns, row, strict=True)) for row in rows], seeds=(1, 2))
    success = {"a": analysis.final_success(read_run(folder)), "b": {1: 0.5, 2: 1.0}}
    assert analysis.paired(success) == {"a": {1: 0.375}, "b": {1: 0.5}}
    assert "seeds [2]" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing can be compared"):
        analysis.paired({"a": {1: 0.5}, "b": {2: 0.5}})


def test_one_seed_has_no_interval():
    (_, row) = analysis.comparison({"a": {1: 0.5}, "b": {1: 0.4}})
    assert (row["difference"], row["low"], row["std"]) == ("10.0", "", "")


def test_an_agents_own_setting_reaches_those_that_have_it():
    configs = compare.configurations(
        ["trqam", "fql"], ["compare", "--config.agent.kl_budget=0.7", "--config.agent.rho=0.3"]
    )
    assert configs[0].agent.kl_budget == 0.7
    assert [config.agent.rho for config in configs] == [0.3, 0.3]
    with pytest.raises(UserError, match="none of trqam, fql uses this setting"):
        compare.configurations(["trqam", "fql"], ["compare", "--config.agent.kappa=0.7"])
    with pytest.raises(UserError, match=r"kl_budget=0.5,1.0: expected one value; sweep.py"):
        compare.configurations(["trqam", "fql"], ["compare", "--config.agent.kl_budget=0.5,1"])
    with pytest.raises(UserError, match="at least two"):
        compare.configurations(["trqam", "trqam"], ["compare"])
    with pytest.raises(UserError, match="Did you mean 'fql'"):
        compare.configurations(["trqam", "fqll"], ["compare"])


def test_the_command(tmp_path):
    command = [
        *[sys.executable, "experiments/compare.py", "--agents=trqam,qam", "--env=cube-single-task1", "--num_seeds=2"],
        *["--protocol=quick", "--dataset=generate", "--dataset_episodes=2", f"--dataset_dir={tmp_path}"],
        *[f"--out_dir={tmp_path}", "--group=g", "--bc_steps=10", "--offline_steps=10", "--eval_episodes=1"],
        *["--config.agent.hidden_dims=16,16", "--config.agent.flow_steps=2", "--config.train.batch_size=16"],
    ]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}  # compiled as a user's are
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "compiled")
    output = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    assert "trqam minus it" in output
    folder = tmp_path / "g" / "cube-single"
    assert len(list(folder.glob("cloned-*"))) == 1  # one cloning stage for both
    (written,) = folder.glob("comparison-trqam-*-qam-*.csv")
    rows = read_csv(written)
    assert [row["agent"] for row in rows] == ["trqam", "qam"]
    assert written.with_suffix(".png").exists()
    evals = [read_csv(next(folder.glob(f"{name}-*")) / "eval.csv") for name in ("trqam", "qam")]
    cloned = [[(row["seed"], row["return"]) for row in rows if row["phase"] == "bc"] for rows in evals]
    assert cloned[0] == cloned[1]  # the same policy from the same starts
