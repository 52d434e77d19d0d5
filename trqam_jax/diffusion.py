"""Denoising diffusion (Ho et al. 2020, arXiv 2006.11239) with the variance-preserving schedule, and two samplers."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from trqam_jax import loops
from trqam_jax.flow import Field
from trqam_jax.types import Array


class Schedule(NamedTuple):
    """At steps t = 0 .. T, in double precision; t = 0 is the data."""

    betas: Float[np.ndarray, " T_and_1"]
    alphas: Float[np.ndarray, " T_and_1"]  # 1 - beta
    alpha_bars: Float[np.ndarray, " T_and_1"]  # product of alphas up to t


class ReverseStep(NamedTuple):
    """The constants of a step from t to t - 1: scalars, or (T,) for t = T .. 1."""

    t: Float[Array, "*T"]
    signal: Float[Array, "*T"]  # sqrt(alpha_bar_t), the data's part of x_t
    noise: Float[Array, "*T"]  # sqrt(1 - alpha_bar_t), the noise's
    mean_x0: Float[Array, "*T"]  # weights of the data and of x_t in the mean of x_{t-1}
    mean_x: Float[Array, "*T"]
    std: Float[Array, "*T"]  # sqrt(beta_t); 0 at t = 1


#: (x_t, predicted noise, standard normal draw, constants) -> x_{t-1}.
Step = Callable[[Array, Array, Array, ReverseStep], Array]


def vp_schedule(num_steps: int) -> Schedule:
    """beta_t = 1 - exp(-0.1 / T - 9.9 (2t - 1) / (2 T^2)): the variance-preserving SDE (arXiv 2011.13456) with rates
    from 0.1 to 10, in T steps (arXiv 2112.07804)."""
    t = np.arange(1, num_steps + 1)
    betas = np.append(0.0, -np.expm1(-0.1 / num_steps - 9.9 * (2 * t - 1) / (2 * num_steps**2)))
    return Schedule(betas, 1 - betas, np.cumprod(1 - betas))


def reverse_steps(schedule: Schedule) -> ReverseStep:
    """The constants of all steps, (T,), in the order in which a sampler takes them; rounded at the end only."""
    t = np.arange(len(schedule.betas) - 1, 0, -1)
    beta, alpha, alpha_bar = (of_t[t] for of_t in schedule)
    before = schedule.alpha_bars[t - 1]
    constants = dict(
        t=t,
        signal=np.sqrt(alpha_bar),
        noise=np.sqrt(1 - alpha_bar),
        mean_x0=np.sqrt(before) * beta / (1 - alpha_bar),
        mean_x=np.sqrt(alpha) * (1 - before) / (1 - alpha_bar),
        std=np.where(t > 1, np.sqrt(beta), 0.0),
    )
    return ReverseStep(**{name: jnp.asarray(value, jnp.float32) for name, value in constants.items()})


def noise_level(schedule: Schedule, t: Int[Array, " B"]) -> Float[Array, "B 1"]:
    """sqrt(1 - alpha_bar_t), the standard deviation of x_t around the data's part."""
    return jnp.asarray(np.sqrt(1 - schedule.alpha_bars), jnp.float32)[t][:, None]


def noised(
    schedule: Schedule, x0: Float[Array, "B D"], t: Int[Array, " B"], noise: Float[Array, "B D"]
) -> Float[Array, "B D"]:
    """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise, not clipped. t: 1 .. T, of each row its own."""
    signal = jnp.asarray(np.sqrt(schedule.alpha_bars), jnp.float32)[t][:, None]
    return signal * x0 + noise_level(schedule, t) * noise


def predicted_data(x: Float[Array, "*n D"], eps: Float[Array, "*n D"], step: ReverseStep) -> Float[Array, "*n D"]:
    """The x0 of which x_t would be made by the noise eps."""
    return (x - step.noise * eps) / step.signal


def posterior_step(
    x: Float[Array, "*n D"], eps: Float[Array, "*n D"], z: Float[Array, "*n D"], step: ReverseStep
) -> Float[Array, "*n D"]:
    """The mean of x_{t-1} given x_t and the predicted data, which are clipped to [-1, 1], plus noise (arXiv 2006.11239,
    equation 7). At t = 1 that is the clipped data."""
    x0 = jnp.clip(predicted_data(x, eps, step), -1, 1)
    return step.mean_x0 * x0 + step.mean_x * x + step.std * z


def data_step(
    x: Float[Array, "*n D"], eps: Float[Array, "*n D"], z: Float[Array, "*n D"], step: ReverseStep
) -> Float[Array, "*n D"]:
    """The predicted data themselves plus noise, then clipped to [-1, 1]: not a step of the diffusion reversed."""
    return jnp.clip(predicted_data(x, eps, step) + step.std * z, -1, 1)


def sample_reverse(
    predictor: Field, reverse_step: Step, x: Float[Array, "*n D"], z: Float[Array, "T *n D"], schedule: Schedule
) -> Float[Array, "*n D"]:
    """What is left of x, standard normal, after the steps t = T .. 1.

    predictor: (x_t, t) -> eps; z: standard normal, in the order of the steps, the last one not used.
    """

    def body(x: Array, each: tuple[ReverseStep, Array]) -> tuple[Array, None]:
        step, z = each
        return reverse_step(x, predictor(x, step.t), z, step), None

    x0, _ = loops.scan(body, x, (reverse_steps(schedule), z))
    return x0
