"""DSRL against the released implementation's reference vectors, and its acting rule."""

import golden_vectors as golden
import jax
import jax.numpy as jnp
import numpy as np

from trqam_jax.entropy import tanh_sample
from trqam_jax.networks import bind

DSRL = golden.Case(
    agent="dsrl",
    noise={
        "next_action": "next_latent_eps",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "distill_z": "distill_noise",
        "latent": "latent_eps",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/flow_loss",
        "distill_loss": "critic/distill_loss",
        "actor_loss": "actor/actor_loss",
        "alpha_loss": "actor/alpha_loss",
        "alpha": "actor/alpha",
        "entropy": "actor/entropy",
    },
)


def test_one_update():
    golden.check_one_update(DSRL, "dsrl")


def test_one_update_for_a_gpu():
    golden.check_one_update_for_a_gpu(DSRL, "dsrl")


def test_gradients():
    golden.check_gradients(DSRL, "dsrl")


def test_four_updates():
    golden.check_four_updates(DSRL, "dsrl_steps")


def test_latent_policy():
    vectors = golden.Vectors("dsrl")
    agent = vectors.load("dsrl")
    with jax.default_matmul_precision("highest"):
        heads = bind(agent.latent_network, agent.train.params["actor"], vectors.batch().observations)()
        latent, log_prob = tanh_sample(*heads, vectors.noise(DSRL)["latent"])
    golden.assert_close(latent, vectors.arrays["out/latent"], "latent")
    golden.assert_close(log_prob, vectors.arrays["out/latent_log_prob"], "log pi")


def test_acts_through_the_averaged_flow_from_scaled_latents():
    vectors = golden.Vectors("dsrl")
    agent = vectors.load("dsrl", best_of_n=3)
    train, config, observations = agent.train, agent.config, vectors.batch().observations
    eps = jax.random.normal(jax.random.key(0), (3, len(observations), golden.SPEC.chunk_dim))
    mean, log_std = bind(agent.latent_network, train.params["actor"], observations)()
    x = config.noise_scale * jnp.tanh(mean + jnp.exp(log_std) * eps)
    assert config.noise_scale == 1.4
    for i in range(config.flow_steps):
        flow = bind(agent.flow_network, train.targets["actor_bc_flow"], observations)
        x = x + flow(x, i / config.flow_steps) / config.flow_steps
    candidates = jnp.clip(x, -1, 1)
    critic = bind(agent.critic_network, train.params["critic"], observations)
    scores = np.stack([critic(chunks).mean(0) for chunks in candidates])
    expected = [candidates[n, b] for b, n in enumerate(scores.argmax(0))]
    np.testing.assert_allclose(agent.sample(observations, eps), expected, atol=1e-5)
    assert len(set(scores.argmax(0))) > 1
    np.testing.assert_allclose(agent.sample(observations, eps[1:2]), candidates[1], atol=1e-5)
    assert agent.act(observations, jax.random.key(1)).shape == (len(observations), 5, 3)


def test_pretrained_policy_reaches_the_flow_and_its_average():
    agent = golden.Vectors("dsrl").load("dsrl")
    velocity = jax.tree.map(jnp.zeros_like, agent.train.params["actor_bc_flow"])
    loaded = agent.load_pretrained(velocity).train
    expected = {**agent.train.params, "actor_bc_flow": velocity}, {**agent.train.targets, "actor_bc_flow": velocity}
    jax.tree.map(np.testing.assert_array_equal, (loaded.params, loaded.targets), expected)
