"""What the reference vectors of QSM and DAC have in common."""

import jax
import jax.numpy as jnp
import tiny
from golden_vectors import Vectors, assert_close

from agents import diffusion_policy
from trqam_jax.networks import bind
from trqam_jax.streams import named

#: Draws and losses, {ours: theirs}.
NOISE = {
    "next_action": "next_action_noise",
    "next_sampler": "sampler_noise",
    "diffusion": "diffusion_noise",
    "diffusion_t": "diffusion_t",
}
INFO = {"critic_loss": "critic/critic_loss", "actor_loss": "actor/actor_loss", "q_mean": "critic/q"}


def check_schedule(file):
    """At t = 0 .. T."""
    vectors = Vectors(file)
    schedule = diffusion_policy.schedule(vectors.load(file))
    for ours, theirs in (("betas", "betas"), ("alphas", "alphas"), ("alpha_bars", "alpha_hats")):
        assert_close(getattr(schedule, ours), vectors.arrays[f"out/{theirs}"], theirs)


def check_point(case, file):
    """The noised chunks, the averaged critics' gradient there and the noise that is predicted; and the total loss."""
    vectors = Vectors(file)
    agent, batch, noise = vectors.load(case.agent), vectors.batch(), vectors.noise(case)
    with jax.default_matmul_precision("highest"):
        point = jax.jit(diffusion_policy.point_of)(agent, batch, noise)
        predictor = bind(diffusion_policy.predictor_network(agent), agent.train.params["actor"], batch.observations)
        eps = predictor(point.x, point.t)
        _, info = jax.jit(type(agent).step)(agent, batch, noise)
    assert_close(point.x, vectors.arrays["out/noisy_actions"], "noised chunks")
    assert_close(point.q_grad, vectors.arrays["out/q_grad"], "gradient of the critics")
    assert_close(eps, vectors.arrays["out/eps_pred"], "predicted noise")
    total = info["critic_loss"] + info["actor_loss"] + agent.config.alpha * info["denoising_loss"]
    assert_close(total, vectors.arrays["out/total_loss"], "total loss")


def check_sampling(case, file, reverse_step):
    """The TD target's action and what the policy does, from the file's draws. Returns the latter."""
    vectors = Vectors(file)
    agent, batch, noise, drawn = vectors.load(case.agent), vectors.batch(), vectors.noise(case), vectors.group("noise")
    with jax.default_matmul_precision("highest"):
        sample = lambda *given: diffusion_policy.sample(agent, reverse_step, *given)
        next_chunks = sample(batch.next_observations, noise["next_action"][0], noise["next_sampler"])
        chunks = sample(batch.observations, drawn["policy_noise"], drawn["policy_sampler_noise"])
    assert_close(next_chunks, vectors.arrays["out/next_action"], "next action")
    assert_close(chunks, vectors.arrays["out/policy_action"], "actions")
    return chunks


def check_acting(name, reverse_step):
    """`act` is the sampler from two draws of its key; the number of candidates, which is not read, changes nothing."""
    observations, key = jax.random.normal(jax.random.key(7), (5, tiny.SPEC.observation_dim)), jax.random.key(4)
    agent, other = (tiny.agent(name, diffusion_steps=3, best_of_n=n) for n in (1, 4))
    x = jax.random.normal(key, (5, tiny.SPEC.chunk_dim))
    z = jax.random.normal(named(key, "sampler"), (3, *x.shape))
    by_hand = diffusion_policy.sample(agent, reverse_step, observations, x, z)
    actions = agent.act(observations, key)
    assert actions.shape == (5, tiny.SPEC.horizon, tiny.SPEC.action_dim)
    assert (actions.reshape(5, -1) == by_hand).all()
    assert (other.act(observations, key) == actions).all()
    assert (agent.act(observations, jax.random.key(5)) != actions).any()
    assert jnp.abs(actions).max() <= 1
