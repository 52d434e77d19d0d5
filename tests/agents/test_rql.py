"""RQL against the released implementation's reference vectors, its windows among them."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny
from golden_vectors import Case, Vectors, assert_close, check_four_updates, check_gradients, check_one_update

from agents.rql import euler_step, reverse
from trqam_jax.critic import pessimistic, td_target
from trqam_jax.flow import interpolate, sample_ode
from trqam_jax.networks import bind
from trqam_jax.types import Windows

CASE = Case(
    "rql",
    noise={name: name for name in ("next_x0", "reverse_u", "reverse_k", "flow_x0", "flow_t")},
    info={
        "critic_loss": "critic_loss",
        "flow_loss": "bc_loss",
        "actor_loss": "actor_loss",
        "q_mean": "q_mean",
        "step_q_mean": "q_pe_mean",
    },
)


def test_one_update():
    check_one_update(CASE, "rql")


def test_gradients():
    check_gradients(CASE, "rql")


def test_four_updates():
    """They also tell the averages' two rates apart, and that nothing is clipped."""
    check_four_updates(CASE, "rql_steps")


def test_windows():
    vectors = Vectors("rql")
    batch = vectors.batch()
    for ours, theirs in {"rewards": "n_step_reward", "masks": "bootstrap_mask", "valid": "valid"}.items():
        assert_close(getattr(batch, ours), vectors.arrays[f"out/{theirs}"], ours)
    assert_close(jnp.repeat(batch.in_episode, 3, axis=-1), vectors.arrays["out/action_mask"], "action_mask")


def test_pieces():
    """Reversal, target and the step whose value the flow ascends."""
    vectors = Vectors("rql")
    agent, noise, batch, out = vectors.load("rql"), vectors.noise(CASE), vectors.batch(), vectors.group("out")
    steps = agent.config.flow_steps
    flow = bind(agent.flow_network, agent.train.params["actor"], batch.observations)
    critic = bind(agent.critic_network, agent.train.params["critic"], batch.observations)
    next_critic = bind(agent.critic_network, agent.train.targets["critic"], batch.next_observations)
    with jax.default_matmul_precision("highest"):
        durations = out["reverse_d"][:, None]
        reversed_x = reverse(flow, batch.chunks, durations, steps)
        next_values = pessimistic(next_critic(noise["next_x0"], 0.0), agent.config.rho)
        x_t = interpolate(noise["flow_x0"], batch.chunks, noise["flow_t"])
        stepped, time = euler_step(x_t, flow(x_t, noise["flow_t"]), noise["flow_t"], steps)
        values = critic(stepped, time).mean(0)
    assert_close(reversed_x, out["reverse_x"], "reverse_x")
    assert_close(1 - durations, out["reverse_f"], "reverse_f")
    assert_close(next_values, out["next_q"], "next_q")
    targets = td_target(batch, next_values, agent.config.bootstrap_discount)
    assert_close(targets, out["td_target"], "td_target")
    assert_close(stepped, out["stepped_x"], "stepped_x")
    assert_close(time, out["stepped_t"], "stepped_t")
    assert_close(values, out["q_pe"], "q_pe")


def test_acting():
    """By the average in evaluations, by the flow itself online."""
    vectors = Vectors("rql")
    agent, noise, observations = vectors.load("rql"), vectors.group("noise"), vectors.batch().observations
    online = agent.replace(train=agent.train.replace(targets=agent.train.params))
    with jax.default_matmul_precision("highest"):
        for acting, expected in ((agent, "policy_action"), (online, "online_action")):
            actions = acting.sample(observations, noise["policy_noise"][None])
            assert_close(actions, vectors.arrays[f"out/{expected}"], expected)
    key = jax.random.key(0)
    np.testing.assert_array_equal(agent.act_online(observations, key), online.act(observations, key))


def test_a_reversed_flow_comes_back():
    """Of a velocity that does not depend on x, exactly: the sampler's steps forward undo those backward."""
    velocity = lambda x, t: jnp.broadcast_to(jnp.asarray(t) * 0 + 0.7, x.shape)
    x1 = jnp.array([[0.2, -0.5], [1.0, 0.3]])
    x0 = reverse(velocity, x1, jnp.ones((2, 1)), 5)
    np.testing.assert_allclose(x0, x1 - 0.7, rtol=1e-6)
    np.testing.assert_allclose(sample_ode(velocity, x0, 5), x1, rtol=1e-6)
    np.testing.assert_array_equal(reverse(velocity, x1, jnp.zeros((2, 1)), 5), x1)


def test_draws_cover_the_flow_times():
    """Half of the durations anywhere below 1, half on the sampler's grid with both ends; an odd batch is no fault."""
    agent = tiny.agent("rql")
    noise = agent.draw(jax.random.key(0), 401)
    assert noise["reverse_u"].shape == (200,)
    assert set(np.asarray(noise["reverse_k"])) == set(range(agent.config.flow_steps + 1))


def test_windows_are_a_setting():
    assert tiny.agent("rql").windows is Windows.EPISODES
    assert tiny.agent("rql", windows="rows").windows is Windows.ROWS
    assert tiny.agent("trqam").windows is Windows.ROWS
