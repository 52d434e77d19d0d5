"""SQAM against the released implementation's reference vectors."""

import jax
from golden_vectors import (
    Case,
    Vectors,
    assert_close,
    check_acting,
    check_four_updates,
    check_gradients,
    check_one_update,
)

from trqam_jax.adjoint import bridge_regression
from trqam_jax.flow import sample_ode
from trqam_jax.networks import bind

CASE = Case(
    "sqam",
    noise={
        "next_action": "next_action_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "rollout_x0": "endpoint_noise",
        "bridge_eps": "bridge_noise",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "q_gap": "critic/gap_reg_term",
        "flow_loss": "actor/flow_loss",
        "adjoint_loss": "actor/adj_loss",
        "path_kl": "actor/path_kl",
    },
)


def test_bridges_and_adjoints():
    vectors = Vectors("sqam")
    agent, noise, observations = vectors.load("sqam"), vectors.noise(CASE), vectors.batch().observations
    flow = lambda params: bind(agent.flow_network, params, observations)
    with jax.default_matmul_precision("highest"):
        x1 = sample_ode(flow(agent.train.params["actor_fast"]), noise["rollout_x0"], agent.config.flow_steps)
        critic = bind(agent.critic_network, agent.train.targets["critic"], observations)
        fast, base = flow(agent.train.params["actor_fast"]), flow(agent.train.targets["actor_slow"])
        regression = bridge_regression(fast, base, critic, x1, noise["bridge_eps"])
    assert_close(regression.xs, vectors.arrays["out/bridge_xs"], "xs")
    assert_close(regression.ts, vectors.arrays["out/bridge_ts"][:, 0], "ts")
    assert_close(regression.adjoints, vectors.arrays["out/scalar_adjoints"], "adjoints")


def test_acts_with_the_fast_flow():
    check_acting(CASE, "sqam")


def test_one_update():
    vectors = Vectors("sqam")
    new = check_one_update(CASE, "sqam")
    assert_close(new.dual.lam, vectors.arrays["out/new_lam"], "lambda")
    assert_close(new.dual.kl, vectors.arrays["out/new_kl_ema"], "kl average")


def test_gradients():
    check_gradients(CASE, "sqam")


def test_four_updates():
    check_four_updates(CASE, "sqam_steps")
