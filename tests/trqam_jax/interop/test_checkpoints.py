"""A released checkpoint acts here as it did there, and the command line says in one line what is wrong with a file."""

import pathlib
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_vectors import FOLDER, SPEC, assert_close

import envs
from experiments import config as configuration
from experiments.training import pretrained
from experiments.training.replica import replicas_of
from trqam_jax.checkpoint import load, read_meta
from trqam_jax.errors import UserError
from trqam_jax.flow import sample_ode
from trqam_jax.interop import checkpoints
from trqam_jax.networks import Velocity, bind, init_params

PEER = FOLDER / "peer_checkpoint.pkl"


def released(layers, **others):
    """A checkpoint's tree as the released code pickles it."""
    return {"agent": {"rng": jnp.zeros(2), "network": {"step": 1, "params": {"modules_actor_slow": layers}} | others}}


def write(path, tree):
    path.write_bytes(pickle.dumps(tree))
    return path


def test_a_released_policy_acts_as_it_did(tmp_path):
    checkpoints.main([str(PEER), str(tmp_path / "out")])
    network = Velocity((16, 16, 16), SPEC.chunk_dim)
    fresh = init_params(jax.random.key(0), {"actor": (network, (SPEC.observation_dim, SPEC.chunk_dim, 1))})["actor"]
    like = jax.tree.map(lambda x: x[None], fresh)  # one policy
    params = jax.tree.map(lambda x: x[0], load(tmp_path / "out", like))
    with np.load(FOLDER / "peer_checkpoint_expected.npz") as file:
        expected = {name: jnp.asarray(array) for name, array in file.items()}
    with jax.default_matmul_precision("highest"):
        velocity = bind(network, params, expected["observations"])
        actions = jnp.clip(sample_ode(velocity, expected["noise"], int(expected["flow_steps"])), -1, 1)
    assert_close(actions, expected["base_action"], "actions")
    meta = read_meta(tmp_path / "out")
    assert (meta["seeds"], meta["steps"], meta["imported_from"]) == ([0], 0, "peer_checkpoint.pkl")


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_run_starts_from_it(tmp_path, layer_norm, capsys):
    domain = envs.DOMAINS["cube-single"]
    chunk_dim = domain.horizon * domain.action_dim
    network = Velocity((8, 8), chunk_dim, layer_norm)
    layers = init_params(jax.random.key(1), {"actor": (network, (domain.observation_dim, chunk_dim, 1))})["actor"]
    path = write(tmp_path / "params_300000.pkl", released({"mlp": layers}))
    out = tmp_path / "out"
    checkpoints.main([str(path), str(out), "--env", "cube-single"])
    assert f"{out}: a BC policy of 300,000 updates" in capsys.readouterr().out
    assert read_meta(out)["steps"] == 300_000
    config = configuration.resolve(
        agent="trqam",
        env="cube-single",
        protocol="quick",
        seeds=["4", "5"],
        settings={"bc.steps": 0, "bc.checkpoint": str(out)},
        overrides={"agent.hidden_dims": "(8, 8)", "agent.actor_layer_norm": str(layer_norm)},
    )
    velocity, steps = pretrained.load(out, config, domain, replicas_of(config))
    assert steps == 300_000
    for replica in range(2):
        jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda x, r=replica: x[r], velocity), layers)


def test_updates_are_counted_by_the_file_name_or_the_released_counter():
    tree = {"agent": {"network": {"step": 51}}}
    assert checkpoints.updates_of(pathlib.Path("params_300000.pkl"), tree) == 300_000
    assert checkpoints.updates_of(pathlib.Path("policy.pkl"), tree) == 50
    tree["agent"]["network"]["step"] = np.array([np.nan])
    assert checkpoints.updates_of(pathlib.Path("policy.pkl"), tree) == 0


DENSE = {"kernel": np.zeros((6, 4), np.float32), "bias": np.zeros(4, np.float32)}
OUTPUT = {"kernel": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}
NORM = {"scale": np.zeros(4, np.float32), "bias": np.zeros(4, np.float32)}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "not a released checkpoint"),
        ({"agent": {"network": {"params": 3}}}, "not a released checkpoint"),
        ({"agent": {"network": {"params": {1: 2, "a\nb": 3}}}}, "not a released checkpoint"),
        ({"agent": {"network": {"params": {"modules_actor_flow": {}}}}}, "Choices: actor_flow"),
        (released({}), "holds nothing"),
        (released(3), "holds nothing"),
        (released({"Dense_0": DENSE, "Dense_2": OUTPUT}), "no flow policy"),
        (released({"Dense_0": DENSE, "LayerNorm_0": NORM, "LayerNorm_1": NORM}), "no flow policy"),
        (released({"Dense_0": DENSE, "Dense_1": DENSE}), "shapes at Dense_1"),
        (released({"Dense_0": DENSE, "LayerNorm_0": OUTPUT, "Dense_1": OUTPUT}), "LayerNorm_0/scale"),
        (released({"Dense_0": DENSE, "Dense_1": {"kernel": OUTPUT["kernel"]}}), "Dense_1/bias"),
        (released({"Dense_0": DENSE, "Dense_1": OUTPUT | {"bias": np.zeros(3, int)}}), "Dense_1/bias"),
    ],
)
def test_what_is_no_flow_is_named(tmp_path, tree, message):
    path = write(tmp_path / "some.pkl", tree)
    with pytest.raises(SystemExit) as stopped:
        checkpoints.main([str(path), str(tmp_path / "out")])
    assert stopped.value.code.startswith(f"error: {path}: ")
    assert message in stopped.value.code
    assert "\n" not in stopped.value.code
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_left_alone(tmp_path):
    with pytest.raises(UserError, match="exists"):
        checkpoints.import_checkpoint(PEER, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_a_program_in_one_line(tmp_path):
    path = tmp_path / "params_1.pkl"
    path.write_bytes(b"\x80\x03cos\nsystem\nX\x05\x00\x00\x00touch\x85R.")
    command = [sys.executable, "-m", "trqam_jax.interop.checkpoints", str(path), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=FOLDER.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: {path}: not loaded: it names 'os.system', and only arrays of numpy and JAX are read"
    ]
    with pytest.raises(SystemExit) as stopped:
        checkpoints.main([])
    assert stopped.value.code.count("\n") == 0
