"""TRQAM against the released implementation's reference vectors."""

import jax
import jax.numpy as jnp
import pytest
from golden_vectors import SPEC, Vectors, assert_close, assert_trees_close

from agents.trqam import TRQAM
from trqam_jax.adjoint import lean_adjoint, value_gradient
from trqam_jax.networks import bind
from trqam_jax.sde import sample_path
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual

INFO = {
    "critic_loss": "critic/critic_loss",
    "flow_loss": "actor/flow_loss",
    "adjoint_loss": "actor/adj_loss",
    "path_kl": "actor/path_kl",
    "adjoint_max": "actor/adj_max",
    "lambda": "dual/lambda",
    "kl_average": "dual/kl_ema",
}


def noise_of(vectors, update=None):
    noise = vectors.group("noise", update)
    return {
        "next_action": jnp.swapaxes(noise["next_action_noise"], 0, 1),
        "flow_x0": noise["flow_x0"],
        "flow_t": noise["flow_t"],
        "rollout_x0": noise["rollout_x0"],
        "rollout_eps": noise["rollout_noise"],
    }


def agent_of(vectors):
    config = vectors.config("trqam")
    tree = vectors.tree("param")
    agent = TRQAM(train=None, config=config, spec=SPEC, dual=None)
    params = {name: tree[name] for name in ("actor_slow", "actor_fast", "critic")}
    targets = {name: tree[f"target_{name}"] for name in ("actor_slow", "critic")}
    train = TrainState(params, targets, agent.optimizer.init(params))
    dual = Dual(*(jnp.array(vectors.meta[k]) for k in ("lam", "kl_ema", "kl_budget")))
    return agent.replace(train=train, dual=dual)


@pytest.fixture(autouse=True)
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


def test_path_and_adjoints():
    vectors = Vectors("trqam")
    agent, batch, noise = agent_of(vectors), vectors.batch(), noise_of(vectors)
    base = bind(agent.flow_network, agent.train.targets["actor_slow"], batch.observations)
    fast = bind(agent.flow_network, agent.train.params["actor_fast"], batch.observations)
    path = sample_path(fast, base, noise["rollout_x0"], noise["rollout_eps"])
    assert_close(path.xs, vectors.arrays["out/rollout_xs"], "xs")
    assert_close(path.ts, vectors.arrays["out/rollout_ts"][:, 0], "ts")
    critic = bind(agent.critic_network, agent.train.targets["critic"], batch.observations)
    adjoints = lean_adjoint(base, path, -value_gradient(critic, path.x1))
    assert_close(adjoints, vectors.arrays["out/lean_adjoints"], "adjoints")


def test_acts_with_the_fast_flow():
    vectors = Vectors("trqam")
    actions = agent_of(vectors).sample(vectors.batch().observations, vectors.group("noise")["policy_noise"][None])
    assert_close(actions, vectors.arrays["out/policy_action"], "actions")


def test_one_update():
    vectors = Vectors("trqam")
    agent = agent_of(vectors)
    new, info = jax.jit(TRQAM.step)(agent, vectors.batch(), noise_of(vectors))
    for ours, theirs in INFO.items():
        assert_close(info[ours], vectors.arrays[f"out/info/{theirs}"], ours)
    assert_close(new.dual.lam, vectors.arrays["out/new_lam"], "lambda")
    expected = vectors.tree("new")
    assert_trees_close(new.train.params, expected, "new")
    assert_trees_close({f"target_{k}": v for k, v in new.train.targets.items()}, expected, "new")


def test_gradients():
    """The gradients themselves: a huge Adam epsilon makes the first step proportional to them."""
    vectors = Vectors("trqam")
    agent = agent_of(vectors)
    # Adam's first moment after one unclipped step is (1 - .9) times the gradient.
    agent = agent.replace(config=vectors.config("trqam", clip_norm=None))
    agent = agent.replace(train=agent.train.replace(opt_state=agent.optimizer.init(agent.train.params)))
    new, _ = jax.jit(TRQAM.step)(agent, vectors.batch(), noise_of(vectors))
    grads = jax.tree.map(lambda mu: mu / (1 - 0.9), new.train.opt_state[0].mu)
    assert_trees_close(grads, vectors.tree("grad"), "grad")


def test_four_updates():
    """Four in a row tell joint clipping from none, and old from new parameters in the averages."""
    vectors = Vectors("trqam_steps")
    agent = agent_of(vectors)
    step = jax.jit(TRQAM.step)
    for update in range(vectors.meta["updates"]):
        agent, info = step(agent, vectors.batch(update), noise_of(vectors, update))
        for ours, theirs in INFO.items():
            assert_close(info[ours], vectors.arrays[f"out/{update}/info/{theirs}"], f"{update} {ours}")
    expected = vectors.tree("new")
    assert_trees_close(agent.train.params, expected, "new")
    assert_trees_close({f"target_{k}": v for k, v in agent.train.targets.items()}, expected, "new")
