"""What QSM and DAC share: a diffusion policy whose predicted noise a critic's gradient corrects.

Both as the QAM release (arXiv 2601.14234) has them, in one implementation. Its oddity, kept: a row's loss is raised to
the power of `valid` instead of multiplied by it, so a window that crosses an episode's end adds 1 to a mean and no
gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from agents.shared import critic_loss_of, gradient_step
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.diffusion import Schedule, Step, noise_level, noised, sample_reverse, vp_schedule
from trqam_jax.networks import NoisePredictor, bind, init_params
from trqam_jax.settings import Setting
from trqam_jax.streams import named, normals
from trqam_jax.train_state import TrainState
from trqam_jax.types import Array, Batch, Key, Params


def settings(alpha: float) -> dict[str, Setting]:
    """What both read. alpha: the default weight of the cloning term; the release's is 0, which no domain has."""
    return {
        "alpha": Setting(alpha, "weight of the cloning term, tuned per domain; 0: none", low=0.0),
        "diffusion_steps": Setting(10, "T, steps of the diffusion; flow_steps is not read", low=1),
        "time_dim": Setting(
            64, "Fourier features of the diffusion's step: half are cosines, half sines", low=2, multiple_of=2
        ),
    }


class Point(NamedTuple):
    """Where an update evaluates the noise predictor, all of it fixed."""

    x: Float[Array, "B D"]  # the batch's chunks, noised; not clipped
    t: Float[Array, "B 1"]  # 1 .. T
    noise: Float[Array, "B D"]  # what they were noised with
    noise_level: Float[Array, "B 1"]  # sqrt(1 - alpha_bar_t)
    q_grad: Float[Array, "B D"]  # gradient of the averaged critics' mean at x


#: The term that ascends the critics, of each row: (predicted noise, where) -> (B,).
RowLoss = Callable[[Array, Point], Array]


def initialise(agent: AbstractAgent, key: Key) -> TrainState:
    """A new noise predictor and new critics, and an average of the critics alone."""
    sizes = agent.spec.observation_dim, agent.spec.chunk_dim
    networks = {"actor": (predictor_network(agent), (*sizes, 1)), "critic": (agent.critic_network, sizes)}
    return TrainState.create(init_params(key, networks), ("critic",), agent.optimizer)


def predictor_network(agent: AbstractAgent) -> NoisePredictor:
    """The noise predictor, of the configured size."""
    config = agent.config
    return NoisePredictor(agent.actor_dims, agent.spec.chunk_dim, config.time_dim, config.actor_layer_norm)


def schedule(agent: AbstractAgent) -> Schedule:
    """The diffusion's, of the configured number of steps."""
    return vp_schedule(agent.config.diffusion_steps)


def draw(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """What an update draws: for the target's action, its sampler, and the noised chunks."""
    num_steps, chunk = agent.config.diffusion_steps, (batch_size, agent.spec.chunk_dim)
    noise = normals(key, next_action=(1, *chunk), next_sampler=(num_steps, *chunk), diffusion=chunk)
    t = jax.random.randint(named(key, "diffusion_t"), (batch_size,), 1, num_steps + 1)
    return noise | {"diffusion_t": t}


def point_of(agent: AbstractAgent, batch: Batch, noise: Noise) -> Point:
    """The batch's chunks at the drawn steps of the diffusion, and the averaged critics' gradient there."""
    t, constants = noise["diffusion_t"], schedule(agent)
    x = noised(constants, batch.chunks, t, noise["diffusion"])
    critic = bind(agent.critic_network, agent.train.targets["critic"], batch.observations)
    q_grad = jax.grad(lambda x: critic(x).mean(0).sum())(x)
    return Point(x, t[:, None].astype(x.dtype), noise["diffusion"], noise_level(constants, t), q_grad)


def update(
    agent: AbstractAgent, batch: Batch, noise: Noise, reverse_step: Step, row_loss: RowLoss
) -> tuple[AbstractAgent, Info]:
    """One gradient step down the TD loss + the mean of row_loss + alpha x the cloning term."""
    next_chunks = sample(agent, reverse_step, batch.next_observations, noise["next_action"][0], noise["next_sampler"])
    td = critic_loss_of(agent, batch, next_chunks)
    point = point_of(agent, batch, noise)

    def loss(params: Params) -> tuple[Array, Info]:
        critic_loss, info = td(params)
        eps = bind(predictor_network(agent), params["actor"], batch.observations)(point.x, point.t)
        denoising_loss = mean_of_powers(jnp.square(point.noise - eps).mean(-1), batch.valid)
        actor_loss = mean_of_powers(row_loss(eps, point), batch.valid)
        info |= {"actor_loss": actor_loss, "denoising_loss": denoising_loss}
        return critic_loss + actor_loss + agent.config.alpha * denoising_loss, info

    return gradient_step(agent, loss)


def mean_of_powers(losses: Float[Array, " B"], valid: Float[Array, " B"]) -> Float[Array, ""]:
    """Mean of losses^valid, where valid is 0 or 1: written without the power, whose gradient at a negative or zero base
    is not finite."""
    return jnp.mean(jnp.where(valid > 0, losses, 1.0))


def sample(
    agent: AbstractAgent,
    reverse_step: Step,
    observations: Float[Array, "B O"],
    x: Float[Array, "B D"],
    z: Float[Array, "T B D"],
) -> Float[Array, "B D"]:
    """Chunks in [-1, 1] that the online policy makes of x; z: what its steps add. Both are standard normal."""
    predictor = bind(predictor_network(agent), agent.train.params["actor"], observations)
    return sample_reverse(predictor, reverse_step, x, z, schedule(agent))


def act(agent: AbstractAgent, reverse_step: Step, observations: Float[Array, "B O"], key: Key) -> Float[Array, "B D"]:
    """The same from draws of the key's."""
    chunk = len(observations), agent.spec.chunk_dim
    z = jax.random.normal(named(key, "sampler"), (agent.config.diffusion_steps, *chunk))
    return sample(agent, reverse_step, observations, jax.random.normal(key, chunk), z)
