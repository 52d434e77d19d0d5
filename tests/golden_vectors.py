"""Reads the reference vectors of tests/golden into this suite's names, and compares leaf by leaf."""

import json
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

import agents
from agents import edits
from agents.shared import flow_chunks
from trqam_jax.adjoint import lean_regression
from trqam_jax.agent_config import AgentConfig
from trqam_jax.backend import compiling_for
from trqam_jax.data import assemble_repeated
from trqam_jax.entropy import tanh_sample
from trqam_jax.networks import bind
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual
from trqam_jax.types import Batch, Spec

FOLDER = pathlib.Path(__file__).parent / "golden"
SPEC = Spec(observation_dim=7, action_dim=3, horizon=5)

#: Names of the vectors' settings in this suite's configuration.
SETTINGS = {
    "discount": "discount",
    "actor_hidden_dims": "hidden_dims",
    "actor_layer_norm": "actor_layer_norm",
    "num_qs": "num_critics",
    "rho": "rho",
    "tau": "tau",
    "flow_steps": "flow_steps",
    "best_of_n": "best_of_n",
    "lr": "learning_rate",
    "kl_budget": "kl_budget",
    "eta_lambda": "eta",
    "kl_ema_coef": "kl_average",
    "kl_clip_coef": "kl_clip",
    "lambda_min": "lambda_min",
    "lambda_max": "lambda_max",
    "lam_scale": "lam_scale",
    "noise_scale": "noise_scale",
    "target_entropy_multiplier": "target_entropy_multiplier",
    "guidance_coef": "guidance_coef",
    "noisy_coef": "noisy_coef",
    "isd_clip": "linex_clip",
    "kappa": "kappa",
    "num_samples": "num_samples",
    "inv_temp": "inv_temp",
    "edit_scale": "edit_scale",
    "edit_target_entropy_multiplier": "target_entropy_multiplier",
    "fql_alpha": "fql_alpha",
    "alpha": "alpha",
    "gap_reg_coef": "gap_coef",
    "n_bridge": "n_bridge",
    "bc_alpha": "bc_alpha",
    "expectile": "expectile",
    "ema": "actor_decay",
    "ensemble_ct": "num_critics",
    "diffusion_steps": "diffusion_steps",
    "time_dim": "time_dim",
    "alpha_actor": "alpha_actor",
    "actor_noise": "actor_noise",
    "actor_noise_clip": "actor_noise_clip",
    "actor_freq": "actor_freq",
}

#: Modules of the files that wrap others, which this suite's networks do not have.
WRAPPERS = ("mlp", "value_net", "MLP_0", "actor_net")
#: Names of layers that this suite calls otherwise.
LAYERS = {"OutputDenseMean": "mean", "OutputDenseLogStd": "log_std", "mean_net": "mean"}
#: Of single methods: names of networks and layers. UNUSED: layers that never move.
OF_AGENT = {
    "fedit": {"alpha": "edit_alpha"},
    "rql": {"value": "critic", "target_value": "target_critic", "mean_net": "Dense_3"},
    "dcgql": {"MLP_0": "condition", "MLP_1": "main"},
}
UNUSED = {"rql": {"log_std_net"}}
#: Where a noise predictor has its frequencies, with a second axis of length one.
FREQUENCIES = ("FourierFeatures_0", "kernel")


class Case(NamedTuple):
    """How this suite's names of one method read in its files: {ours: theirs}."""

    agent: str
    noise: dict[str, str]  # draws
    info: dict[str, str]  # entries of info, below out/info


class Vectors:
    """One file: `tree("param")`, `batch(i)`, `noise(case, i)`, `config(agent)`, `load(agent)`."""

    def __init__(self, name):
        with np.load(FOLDER / f"{name}.npz") as file:
            self.arrays = dict(file)
        self.meta = json.loads(str(self.arrays["meta"]))

    def tree(self, root):
        """{network: parameters}, by this suite's names."""
        names = dict.fromkeys(WRAPPERS) | LAYERS | OF_AGENT.get(self.meta["agent_name"], {})
        unused = UNUSED.get(self.meta["agent_name"], set())
        flat = {}
        for path, value in self.arrays.items():
            first, *parts = path.split("/")
            if first != root or unused & set(parts):
                continue
            value = jnp.asarray(value)
            if tuple(parts[1:]) == FREQUENCIES:
                parts, value = [parts[0], "frequencies"], value[:, 0]
            inner = [names.get(part, part) for part in parts]
            flat[tuple(part for part in inner if part is not None)] = value
        return traverse_util.unflatten_dict(flat)

    def group(self, root, update=None):
        prefix = root + "/" if update is None else f"{root}/{update}/"
        return {k.removeprefix(prefix): jnp.asarray(v) for k, v in self.arrays.items() if k.startswith(prefix)}

    def batch(self, update=None):
        x = self.group("in", update)
        if "next_observations" not in x:
            return self._repeated_windows(x)
        last = {name: x[name][:, -1] for name in ("rewards", "masks", "next_observations")}
        return Batch(observations=x["observations"], actions=x["actions"], in_episode=x["valid"], **last)

    def _repeated_windows(self, x):
        """Of rows (H + 1, B, ...), the windows' own and the one after them."""
        x["terminals"] = x["terminals"] > 0
        rows = [x[name][:-1] for name in ("actions", "rewards", "masks", "terminals")]
        observations = x["observations"]
        one = lambda rows, first, last: assemble_repeated(
            *rows, observation=first, next_observation=last, discount=self.meta["discount"]
        )
        return jax.vmap(one, (1, 0, 0))(rows, observations[0], observations[-1])

    def noise(self, case, update=None):
        """Draws by our names; the candidates of the next action come first, as (n, B, D)."""
        drawn = self.group("noise", update)
        return {
            ours: jnp.swapaxes(drawn[theirs], 0, 1)
            if theirs.startswith("next_") and drawn[theirs].ndim > 2
            else drawn[theirs]
            for ours, theirs in case.noise.items()
        }

    def info(self, case, update=None):
        out = self.group("out", update)
        return {ours: out[f"info/{theirs}"] for ours, theirs in case.info.items()}

    def config(self, agent, **overrides):
        settings = agents.settings(agent)
        values = {
            ours: self.meta[theirs] for theirs, ours in SETTINGS.items() if theirs in self.meta and ours in settings
        }
        return AgentConfig.create(settings, {**values, **overrides})

    def number(self, update=0):
        """Of the update, from 1, as the agent is told it; where averages move at every second one, the file says so."""
        moves = self.meta.get("full_update", {})
        return jnp.int32(update + 1 if len(moves) != 1 else 1 + moves[0])

    def load(self, agent, **overrides):
        """The agent with the file's parameters; a fresh one says which networks and averages it has."""
        fresh = agents.AGENTS[agent].create(jax.random.key(0), SPEC, self.config(agent, **overrides))
        tree = self.tree("param")
        params = {name: tree[name] for name in fresh.train.params}
        targets = {name: tree[f"target_{name}"] for name in fresh.train.targets}
        train = TrainState(params, targets, fresh.optimizer.init(params))
        assert jax.tree.map(jnp.shape, train) == jax.tree.map(jnp.shape, fresh.train), "not the networks of the file"
        if "lam" in self.meta:
            fresh = fresh.replace(dual=Dual(lam=jnp.array(self.meta["lam"]), kl=jnp.array(self.meta["kl_ema"])))
        return fresh.replace(train=train)


def check_adjoints(case, file, inv_temp=1.0):
    """The rollout of the fine-tuned SDE and the lean adjoints along it."""
    vectors = Vectors(file)
    agent, noise, observations = vectors.load(case.agent), vectors.noise(case), vectors.batch().observations
    flow = lambda params: bind(agent.flow_network, params, observations)
    critic = bind(agent.critic_network, agent.train.targets["critic"], observations)
    fast, base = flow(agent.train.params["actor_fast"]), flow(agent.train.targets["actor_slow"])
    with jax.default_matmul_precision("highest"):
        regression = lean_regression(fast, base, critic, noise["rollout_x0"], noise["rollout_eps"], inv_temp)
    assert_close(regression.xs, vectors.arrays["out/rollout_xs"], "xs")
    assert_close(regression.ts, vectors.arrays["out/rollout_ts"][:, 0], "ts")
    assert_close(regression.adjoints, vectors.arrays["out/lean_adjoints"], "adjoints")


def check_edits(case, file, flow):
    """Edits of the actions of the network `flow`, by the file's normal draws: e = tanh u and log pi(e)."""
    vectors = Vectors(file)
    agent, noise, observations = vectors.load(case.agent), vectors.noise(case), vectors.batch().observations
    with jax.default_matmul_precision("highest"):
        chunks = flow_chunks(agent, flow, observations, noise["edit_x0"])
        heads = bind(edits.edit_network(agent), agent.train.params["edit_actor"], observations)(chunks)
        edit, log_prob = tanh_sample(*heads, noise["edit"])
    assert_close(edit, vectors.arrays["out/edit"], "edits")
    assert_close(log_prob, vectors.arrays["out/edit_log_prob"], "log density")


def check_acting(case, file, draws=("policy_noise",)):
    """Actions of the policy, from one noise per observation, or from several draws."""
    vectors = Vectors(file)
    agent, noise = vectors.load(case.agent), vectors.group("noise")
    with jax.default_matmul_precision("highest"):
        actions = agent.sample(vectors.batch().observations, *(noise[draw][None] for draw in draws))
    assert_close(actions, vectors.arrays["out/policy_action"], "actions")


def check_one_update(case, file):
    """Losses, new parameters and new averages. Returns the new agent."""
    vectors = Vectors(file)
    agent = vectors.load(case.agent).at_step(vectors.number())
    return check_step(case, vectors, agent, jax.jit(type(agent).step))


def check_one_update_for_a_gpu(case, file):
    """The same of the form that an update takes on a GPU, computed here."""
    vectors = Vectors(file)
    agent = vectors.load(case.agent).at_step(vectors.number())
    with compiling_for("gpu"):  # what JAX has traced of `step` itself takes this machine's form
        check_step(case, vectors, agent, jax.jit(lambda agent, *given: agent.step(*given)))


def check_step(case, vectors, agent, step):
    """`step` from the file's parameters, on its first batch."""
    with jax.default_matmul_precision("highest"):
        new, info = step(agent, vectors.batch(), vectors.noise(case))
    for name, expected in vectors.info(case).items():
        assert_close(info[name], expected, name)
    assert_state_close(new.train, vectors)
    return new


def check_gradients(case, file):
    """The gradients themselves: Adam's first moment after one unclipped step is (1 - .9) times them."""
    vectors = Vectors(file)
    agent = vectors.load(case.agent, clip_norm=None)
    with jax.default_matmul_precision("highest"):
        new, _ = jax.jit(type(agent).step)(agent, vectors.batch(), vectors.noise(case))
    grads = jax.tree.map(lambda mu: mu / (1 - 0.9), new.train.opt_state[0].mu)
    assert_trees_close(grads, vectors.tree("grad"), "grad")


def check_four_updates(case, file):
    """Four in a row tell joint clipping from none, and old from new parameters in the averages."""
    vectors = Vectors(file)
    agent = vectors.load(case.agent)
    step = jax.jit(type(agent).step)
    for update in range(vectors.meta["updates"]):
        with jax.default_matmul_precision("highest"):
            agent, info = step(
                agent.at_step(vectors.number(update)), vectors.batch(update), vectors.noise(case, update)
            )
        for name, expected in vectors.info(case, update).items():
            assert_close(info[name], expected, f"{update} {name}")
    assert_state_close(agent.train, vectors)


def assert_state_close(train, vectors):
    """Parameters and averages against the file's after its last update."""
    expected = vectors.tree("new")
    assert_trees_close(train.params, expected, "new")
    assert_trees_close({f"target_{name}": average for name, average in train.targets.items()}, expected, "new")


def assert_close(actual, expected, name, tolerance=1e-5):
    """max|a - b| <= tolerance * max|b|."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{name}: shape {actual.shape}, expected {expected.shape}"
    error, scale = np.abs(actual - expected).max(), np.abs(expected).max()
    assert error <= tolerance * scale, f"{name}: off by {error:.3g} where the largest entry is {scale:.3g}"


def assert_trees_close(actual, expected, name, tolerance=1e-5):
    """Leaf by leaf, over the leaves of `actual`, all of which `expected` must have."""
    expected = traverse_util.flatten_dict(expected)
    for path, leaf in traverse_util.flatten_dict(actual).items():
        assert_close(leaf, expected[path], f"{name}/{'/'.join(path)}", tolerance)
