"""What the methods of adjoint matching share: the base flow ("slow"), the fine-tuned flow ("fast") and the critics.

QAM, QAM-E and QAM-F (arXiv 2601.14234), TRQAM and its ablation (arXiv 2605.27079), SQAM (arXiv 2610.10437). As
released, the base is not fixed but the Polyak average of the slow flow, which goes on learning by flow matching.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Float

from agents.shared import Loss, best_candidate, draw_common, flow_chunks, gradient_step
from trqam_jax.adjoint import Regression, lean_regression
from trqam_jax.agent import AbstractAgent, Info, Noise
from trqam_jax.agent_config import AgentConfig
from trqam_jax.networks import bind, init_params
from trqam_jax.sde import sample_ode_and_points
from trqam_jax.settings import Setting
from trqam_jax.streams import normals
from trqam_jax.train_state import TrainState
from trqam_jax.trust_region import Dual, path_kl
from trqam_jax.types import Array, Batch, Key, Params, Scalar

#: The flows that start from the pretrained policy.
FLOWS = ("actor_slow", "actor_fast")
#: The networks of which averages are kept: the base flow and the critics of the targets.
AVERAGED = ("actor_slow", "critic")

#: The dual variable's settings, of TRQAM (arXiv 2605.27079), its ablation and SQAM.
TRUST_REGION: dict[str, Setting] = {
    "kl_budget": Setting(1.0, "eps_KL, the path KL to the base flow in nats per action", low=1e-9, online=True),
    "eta": Setting(0.01, "step size of the dual variable lambda", low=0.0),
    "kl_average": Setting(0.1, "weight of the newest path KL in its moving average", low=0.0, high=1.0),
    "kl_clip": Setting(2.0, "a path KL counts up to this many budgets", low=0.0),
    "lambda_min": Setting(0.01, "least lambda", low=0.0),
    "lambda_max": Setting(100.0, "greatest lambda", low=0.0),
    "lam_scale": Setting(3.0, "lambda_eff = lam_scale * lambda", low=0.0),
}


def networks(agent: AbstractAgent) -> dict[str, Any]:
    """The base flow, the fine-tuned one and the critics, as `init_params` takes them."""
    flow = agent.flow_network, (agent.spec.observation_dim, agent.spec.chunk_dim, 1)
    critic = agent.critic_network, (agent.spec.observation_dim, agent.spec.chunk_dim)
    return {"actor_slow": flow, "actor_fast": flow, "critic": critic}


def initialise(agent: AbstractAgent, key: Key) -> TrainState:
    """Fresh parameters of those networks alone."""
    return TrainState.create(init_params(key, networks(agent)), AVERAGED, agent.optimizer)


def draw_rollout(agent: AbstractAgent, key: Key, batch_size: int) -> Noise:
    """What an update with an SDE rollout draws, that of the TD target and of flow matching included."""
    chunk = batch_size, agent.spec.chunk_dim
    rollout = normals(key, rollout_x0=chunk, rollout_eps=(agent.config.flow_steps, *chunk))
    return draw_common(agent, key, batch_size) | rollout


def candidates_and_points(
    agent: AbstractAgent, batch: Batch, noise: Noise
) -> tuple[Float[Array, "n B D"], Float[Array, "K B D"] | None]:
    """Clipped endpoints of the fine-tuned flow at the next observations, of which the TD target's action is chosen, and
    the points of its SDE rollout, which `rollout_regression` takes."""
    flow = lambda observations: bind(agent.flow_network, agent.train.params["actor_fast"], observations)
    ends, xs = sample_ode_and_points(
        flow,
        batch.next_observations,
        noise["next_action"],
        batch.observations,
        noise["rollout_x0"],
        noise["rollout_eps"],
    )
    return jnp.clip(ends, -1, 1), xs


def rollout_regression(
    agent: AbstractAgent,
    batch: Batch,
    noise: Noise,
    inv_temp: Scalar = 1.0,
    xs: Float[Array, "K B D"] | None = None,
) -> Callable[[Params], Regression]:
    """parameters -> the regression of the fine-tuned flow along its own SDE rollout, on the averaged critics. xs: the
    rollout's points, where they are known."""
    flow = lambda params: bind(agent.flow_network, params, batch.observations)
    targets = agent.train.targets

    def regression(params: Params) -> Regression:
        return lean_regression(
            fine_tuned=flow(params["actor_fast"]),
            base=flow(targets["actor_slow"]),
            value=bind(agent.critic_network, targets["critic"], batch.observations),
            x0=noise["rollout_x0"],
            eps=noise["rollout_eps"],
            inv_temp=inv_temp,
            xs=xs,
        )

    return regression


def value_gap(agent: AbstractAgent, params: Params, batch: Batch, x1: Float[Array, "B D"]) -> Float[Array, ""]:
    """mean Q(s, clip x1) - mean Q(s, a), with the gradient through both: SQAM's penalty on critics that value the
    policy's endpoints x1 above the data."""
    critic = bind(agent.critic_network, params["critic"], batch.observations)
    return critic(jnp.clip(x1, -1, 1)).mean() - critic(batch.chunks).mean()


def regression_info(agent: AbstractAgent, regression: Regression, adjoint_loss: Array) -> Info:
    """What to report of a regression; path_kl in nats per action."""
    return {
        "adjoint_loss": adjoint_loss,
        "path_kl": path_kl(regression.delta_v, regression.ts, agent.spec.horizon),
        "adjoint_max": jnp.abs(regression.a1).max(),
    }


def trust_region_step(agent: Any, loss: Loss) -> tuple[Any, Info]:
    """`gradient_step` on a loss that reports path_kl, and the dual variable's step on that."""
    agent, info = gradient_step(agent, loss)
    dual, dual_info = dual_step(agent.dual, info["path_kl"], agent.config)
    return agent.replace(dual=dual), info | dual_info


def dual_step(dual: Dual, kl: Float[Array, ""], config: AgentConfig) -> tuple[Dual, Info]:
    """The dual variable's step on this update's path KL, in nats per action, and what to report of it."""
    dual = dual.update(
        kl,
        budget=config.kl_budget,
        eta=config.eta,
        average=config.kl_average,
        clip=config.kl_clip,
        low=config.lambda_min,
        high=config.lambda_max,
    )
    budget = jnp.asarray(config.kl_budget, jnp.float32)
    return dual, {"lambda": config.lam_scale * dual.lam, "kl_average": dual.kl, "kl_budget": budget}


def sample_fast(
    agent: AbstractAgent, observations: Float[Array, "B O"], noise: Float[Array, "n B D"]
) -> Float[Array, "B D"]:
    """Chunks of the fine-tuned flow's ODE, clipped: the best of n by the critics' mean."""
    candidates = flow_chunks(agent, "actor_fast", observations, noise)
    return best_candidate(agent, observations, candidates)
