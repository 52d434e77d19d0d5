"""An exported policy acts as its run's agent does in evaluations, to the bit, wherever it was brought."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import hub_server
import jax
import numpy as np
import pytest
import yaml
from made_runs import write_run

import envs
from agents.policy import load
from experiments import config as configuration
from experiments import policy as command
from experiments.training.replica import make_replicas, replicas_of
from experiments.training.run import run
from experiments.training.scaled import keep_scaling
from trqam_jax import checkpoint, policy_files
from trqam_jax import policy as flow
from trqam_jax.checkpoint import Checkpoints, Place
from trqam_jax.evaluation import policy as chunks_of
from trqam_jax.evaluation import start_seeds
from trqam_jax.files import sha256_file
from trqam_jax.policy_files import ARRAYS, CARD, MANIFEST
from trqam_jax.scaling import Scaling
from trqam_jax.streams import make_streams

ROOT = pathlib.Path(__file__).parents[3]
ARCHIVE = ROOT / "tests" / "golden" / "run_of_version_0_1.tar.gz"
DOMAIN = envs.DOMAINS["cube-single"]
SCALING = Scaling(np.full(28, -1.5, np.float32), np.full(28, 2.5, np.float32))
TINY = {"agent.hidden_dims": "8,8", "agent.flow_steps": "2", "agent.num_critics": "2"}


def made_run(root, agent, *, scaling=None, seeds=("7", "8"), eval_rows=(), train_rows=(), **overrides):
    """The folder of a run of fresh replicas of `agent`, at 60 offline updates; the replicas, and what tells them."""
    config = configuration.resolve(
        agent=agent, env="cube-single", tasks="1,2", seeds=list(seeds), protocol="quick",
        overrides={**TINY, **{f"agent.{key}": value for key, value in overrides.items()}},
    )  # fmt: skip
    replicas = replicas_of(config)
    agents = make_replicas(agent, config, DOMAIN, replicas)
    folder = write_run(root / f"{agent}-01234567", eval_rows, agent=agent)
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "notes": {"agent.x": "y"}}))
    (folder / "train.csv").write_text("\n".join(["task,seed,phase,step,status", *train_rows, ""]))
    Checkpoints(folder / "checkpoints", ("bc", "offline")).save(
        Place("offline", 60), (agents.state(), {"count": np.zeros(3)})
    )
    keep_scaling(folder, scaling)
    return folder, agents, replicas


def export(*arguments):
    command.main(["export", *map(str, arguments)])


def refusal(*arguments):
    with pytest.raises(SystemExit) as stopped:
        command.main([str(argument) for argument in arguments])
    assert stopped.value.code.startswith("error: ")
    assert "\n" not in stopped.value.code
    return stopped.value.code


def observations(n):
    return np.random.default_rng(0).normal(size=(n, DOMAIN.observation_dim)).astype(np.float32)


@pytest.mark.parametrize(
    ("agent", "overrides"),
    [
        ("trqam", {"best_of_n": "2", "kl_budget": "0.5,1"}),
        ("fql", {}),
        pytest.param("dsrl", {}, marks=pytest.mark.slow),
        pytest.param("qsm", {}, marks=pytest.mark.slow),
        pytest.param("rebrac", {}, marks=pytest.mark.slow),
        pytest.param("ifql", {}, marks=pytest.mark.slow),
    ],
)
def test_a_trained_agent_acts_as_in_its_run(tmp_path, agent, overrides):
    scaling = SCALING if agent == "fql" else None
    folder, agents, replicas = made_run(tmp_path, agent, scaling=scaling, **overrides)
    variant = ["--variant=kl_budget=1.0"] * (agent == "trqam")
    export(folder, f"--out={tmp_path / 'out'}", "--task=2", "--seed=8", *variant)
    index = next(r for r, replica in enumerate(replicas) if (replica.task, replica.seed) == (2, 8))
    index += agent == "trqam"
    own = jax.tree.map(lambda x: np.asarray(x)[index : index + 1], agents)
    key = jax.random.fold_in(make_streams(8, "offline").evaluation, 60)[None]
    acts = load(tmp_path / "out")
    acts.reset(episode=3)
    xs = observations(DOMAIN.horizon + 1)
    actions = np.stack([acts(x) for x in xs])
    for decision, (start, length) in enumerate(((0, DOMAIN.horizon), (DOMAIN.horizon, 1))):
        x = xs[start] if scaling is None else scaling.apply(xs[start])
        slot = np.array([[3]]), np.array([[decision]])
        chunk = np.asarray(chunks_of(own, x[None, None], key, *slot))[0, 0]
        np.testing.assert_array_equal(actions[start : start + length], chunk[:length])
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes.keys() == {MANIFEST, ARRAYS, CARD}
    state = sum(x[0].nbytes for x in map(np.asarray, jax.tree.leaves(agents.state())))
    assert sizes[ARRAYS] < state / 2  # neither optimiser nor averages


def test_the_card_says_what_eval_csv_says(tmp_path):
    common = {"step": 60, "task": 2, "episodes": 50}
    rows = [
        {**common, "seed": 7, "success": 0.42},
        {**common, "seed": 8, "success": 0.5},
        {**common, "seed": 8, "success": 0.1, "step": 40},
        {**common, "seed": 8, "success": 0.9, "task": 1},
    ]
    folder, *_ = made_run(tmp_path, "fql", eval_rows=rows)
    export(folder, f"--out={tmp_path / 'out'}", "--task=2", "--seed=8")
    card = (tmp_path / "out" / CARD).read_text()
    _, header, text = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["library_name"] == "trqam_jax"
    (result,) = fields["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == 0.5
    assert result["dataset"]["name"] == "cube-single-play-singletask-task2-v0"
    assert "| 2 | 8 (this policy) | 50 | 50.0 |" in text
    assert "Mean over 2 rows: 46.0 %." in text
    assert "90.0" not in text
    assert "10.0" not in text
    assert "| protocol | quick |" in text
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    names = {"observation": observations(1)[0]}
    exec(example.replace("hub:OWNER/NAME", str(tmp_path / "out")), names)
    assert names["action"].shape == (DOMAIN.action_dim,)
    digest = json.loads((tmp_path / "out" / MANIFEST).read_text())["digest"]
    assert digest == sha256_file(tmp_path / "out" / ARRAYS)
    assert digest in text


def test_what_cannot_be_exported_is_said(tmp_path):
    folder, *_ = made_run(tmp_path, "fql", train_rows=["2,8,offline,60,diverged"])
    out = f"--out={tmp_path / 'out'}"
    assert "task 1, seed 7; task 1, seed 8; task 2, seed 7" in refusal("export", folder, out)
    assert "holds 2 such" in refusal("export", folder, out, "--task=1")
    assert "no such policy" in refusal("export", folder, out, "--task=3")
    assert "diverged" in refusal("export", folder, out, "--task=2", "--seed=8")
    assert "exists" in refusal("export", folder, f"--out={tmp_path}", "--task=1", "--seed=7")
    assert "config.json" in refusal("export", tmp_path, out)
    array = next(path for path in (folder / "checkpoints").rglob("*") if path.is_file() and "/d/" in str(path))
    array.write_bytes(array.read_bytes()[:-1])
    assert "damaged" in refusal("export", folder, out, "--task=1", "--seed=7")
    assert "policy.json" in refusal("push", folder, "me/policy")
    assert not (tmp_path / "out").exists()


def test_what_a_stranger_may_not_say_of_an_agent(tmp_path):
    folder, *_ = made_run(tmp_path, "fql")
    out = tmp_path / "out"
    export(folder, f"--out={out}", "--task=1", "--seed=7")
    with pytest.raises(ValueError, match=r"agents\.policy"):
        flow.load(out)
    content = json.loads((out / MANIFEST).read_text())
    for fields, named in (
        ({"method": "os"}, "unknown method"),
        ({"method": "bc"}, "Unknown setting"),
        ({"settings": {"hidden_dims": [8, 8], "more": 1}}, "Unknown setting"),
        ({"settings": {**content["settings"], "alpha": [1.0, 2.0]}}, "alpha"),
        ({"settings": {**content["settings"], "alpha": "1"}}, "alpha"),
        ({"settings": {**content["settings"], "clip_norm": [1, 2]}}, "clip_norm"),
        ({"settings": {**content["settings"], "flow_steps": 10**9}}, "flow_steps"),
        ({"settings": {**content["settings"], "flow_steps": "!!python/name:os.system"}}, "flow_steps"),
        ({"settings": {**content["settings"], "hidden_dims": [8, {"a": 1}]}}, "hidden_dims"),
        ({"settings": {**content["settings"], "hidden_dims": [8, 8, 8]}}, "Dense_"),
    ):
        changed = content | fields
        (out / MANIFEST).write_text(json.dumps({**changed, "checksum": policy_files.checksum(changed)}))
        with pytest.raises(ValueError, match=named) as refused:
            load(out)
        assert "\n" not in str(refused.value)


LOAD = """
import sys, numpy as np
from trqam_jax.policy import load
policy = load(sys.argv[1])
observations = np.load(sys.argv[2])
np.save(sys.argv[3], np.stack([policy(x) for x in observations]))
"""


@pytest.mark.slow
def test_pushed_by_one_process_and_loaded_by_another(tmp_path):
    """By environment variables alone, and offline in the end. The actions are equal to the bit."""
    velocity = jax.tree.map(np.asarray, made_run(tmp_path, "bc")[1].train.params["actor"])
    meta = {"env": "cube-single", "steps": 40, "seeds": [7, 8, 7, 8], "scaling": SCALING.to_json()}
    checkpoint.save_params(tmp_path / "bc", velocity, {**meta, "seeds": [1, 2, 3, 4]})
    assert "--seed" in refusal("export", tmp_path / "bc", f"--out={tmp_path / 'out'}")
    assert "leave out --task" in refusal("export", tmp_path / "bc", f"--out={tmp_path / 'out'}", "--task=1")
    export(tmp_path / "bc", f"--out={tmp_path / 'out'}", "--seed=3", "--flow_steps=2")
    xs = observations(7)
    np.save(tmp_path / "observations.npy", xs)
    acts = flow.load(tmp_path / "out")
    expected = np.stack([acts(x) for x in xs])

    with hub_server.hub() as server:
        variables = {**os.environ, **hub_server.environment(server, tmp_path), "PYTHONPATH": str(ROOT)}

        def call(*arguments, **more):
            environment = {**variables, **more}
            return subprocess.run(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip

        done = call("experiments/policy.py", "push", tmp_path / "out", "me/bc")
        commit, files = server.at("me/bc", "main")
        assert done.stdout.splitlines() == [f"{server.url}/me/bc: as hub:me/bc@{commit}"], done.stderr
        assert files.keys() == {MANIFEST, ARRAYS, CARD}
        for name, more in (("hub:me/bc", {}), (f"hub:me/bc@{commit}", {}), ("hub:me/bc", {"HF_HUB_OFFLINE": "1"})):
            server.requests.clear()
            done = call("-c", LOAD, name, tmp_path / "observations.npy", tmp_path / "actions.npy", **more)
            assert done.returncode == 0, done.stderr
            np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), expected)
            assert bool(server.requests) == (name == "hub:me/bc" and not more)


@pytest.mark.slow
@pytest.mark.usefixtures("default_fusions")
def test_it_repeats_its_runs_evaluation(tmp_path):
    """Real simulators: episode by episode the policy from the file does what the run's rows say."""
    with tarfile.open(ARCHIVE) as archive:  # for its data
        archive.extractall(tmp_path, filter="data")
    settings = {
        "data.dataset": str(tmp_path / "data" / "cube-single-play-v0.npz"), "bc.steps": 20,
        "train.offline_steps": 20, "train.log_interval": 20, "eval.interval": 20, "eval.episodes": 2,
        "run.out_dir": str(tmp_path / "runs"), "eval.episode_limit": 23,
    }  # fmt: skip
    options = dict(env="cube-single-task1", protocol="quick", settings=settings, seeds=["7"])
    overrides = {**TINY, "train.batch_size": "16", "agent.best_of_n": "2"}
    folder = run(configuration.resolve(agent="trqam", overrides=overrides, **options))
    evaluated = run(configuration.resolve(agent="bc", overrides=overrides_of_bc(overrides), **options))
    for source, phase in ((folder, "offline"), (evaluated, "bc")):
        out = tmp_path / phase
        export(source, f"--out={out}")
        acts = load(out, seed=7)
        domain = DOMAIN._replace(episode_limit=23)
        simulator = envs.suite_of(domain).env_factory(domain, 1)()
        totals = []
        for episode, seed in enumerate(start_seeds([7], phase, 20, 2)[0]):
            observation, total, over = simulator.reset(int(seed)), 0.0, False
            acts.reset(episode)
            while not over:
                step = simulator.step(acts(observation))
                observation, total, over = step.observation, total + step.reward, step.terminated or step.truncated
            totals.append(total)
        simulator.close()
        rows = [row for row in (source / "eval.csv").read_text().splitlines() if f",{phase},20," in row]
        (row,) = rows
        assert float(row.split(",")[8]) == np.mean(totals)
        assert "| 1 | 7" in (out / CARD).read_text()


def overrides_of_bc(overrides):
    return {key: value for key, value in overrides.items() if key not in ("agent.num_critics", "agent.best_of_n")}
