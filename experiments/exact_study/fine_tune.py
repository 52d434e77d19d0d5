"""Fine-tuning of R replicas in one compiled loop, by the library's rollout, adjoint, matching loss, path KL and dual.

What differs from the agents: base flow and critic are given and stay as they are, so that neither is learnt.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import agents
from agents.matching import dual_step
from experiments.exact_study.flows import Mixture
from experiments.exact_study.policies import Policy
from trqam_jax.adjoint import Regression, lean_regression, matching_loss
from trqam_jax.agent_config import AgentConfig
from trqam_jax.backend import compiler_options
from trqam_jax.sde import sample_path
from trqam_jax.streams import named, normals
from trqam_jax.train_state import make_optimizer, polyak
from trqam_jax.trust_region import Dual, path_kl
from trqam_jax.types import Array, Key, Params, Scalar

AVERAGING_SPAN = 0.1  # of the updates: how far back the Polyak average of the parameters reaches, which is measured
#: What each method minimises, of (regression, lambda_eff, actions per chunk), as its agent does.
OBJECTIVES: dict[str, Callable[[Regression, Scalar, int], Array]] = {
    "qam": lambda r, lam, horizon: matching_loss(r.delta_v, r.adjoints, r.ts),
    "trqam": lambda r, lam, horizon: matching_loss(r.delta_v, r.adjoints, r.ts, lam),
    "trqam_external": lambda r, lam, horizon: (
        matching_loss(r.delta_v, r.adjoints, r.ts) + lam * path_kl(r.delta_v, r.ts, horizon)
    ),
}


class Problem(NamedTuple):
    """A base flow, a critic and a grid."""

    base: Mixture
    critic: Callable[[Array, Array], Array]  # (points (B, D), size of its error) -> values (B,)
    num_steps: int  # K
    horizon: int = 1  # actions per chunk, H


class Budget(NamedTuple):
    """What training takes."""

    updates: int
    batch_size: int
    learning_rate: float = 1e-2


class Trained(NamedTuple):
    """R replicas after training."""

    params: Params  # averaged
    lambda_eff: np.ndarray  # (R,), mean over the last tenth of the updates; 1 where the method has none


def fine_tune(
    method: str,
    problem: Problem,
    policy: Policy,
    settings: dict[str, Any],
    budget: Budget,
    *,
    errors: np.ndarray | float = 0.0,
    seed: int = 0,
) -> Trained:
    """Fine-tune by the agent called `method`, at its default settings but for `settings`: numbers, or (R,) of them.

    errors: (R,) or a number, of the replicas' critics. The same noise for all replicas.
    """
    replicas = max(np.size(value) for value in (*settings.values(), errors))
    values = {"learning_rate": budget.learning_rate, **settings}
    config = AgentConfig.create(agents.settings(method), values).broadcast(replicas)
    errors = np.broadcast_to(np.asarray(errors, np.float32), replicas)
    run = functools.partial(_run, method, problem, policy, budget, jax.random.key(seed))
    params, lambdas = jax.jit(jax.vmap(run), compiler_options=compiler_options())(config, errors)
    return Trained(params, np.asarray(lambdas[:, -max(1, budget.updates // 10) :].mean(1)))


def _run(
    method: str, problem: Problem, policy: Policy, budget: Budget, key: Key, config: AgentConfig, error: Array
) -> tuple[Params, Array]:
    """One replica: (averaged parameters, lambda_eff of every update)."""
    base, horizon = problem.base, problem.horizon
    optimizer = make_optimizer(config.learning_rate, config.clip_norm)
    value = lambda x: problem.critic(x, error)[None]  # an ensemble of one
    tau = 1 / (AVERAGING_SPAN * budget.updates)
    inv_temp = config.inv_temp if method == "qam" else 1.0

    def update(state, step):
        params, average, opt_state, dual = state
        noise = draw(jax.random.fold_in(key, step), problem, budget.batch_size)
        lambda_eff = 1.0 if method == "qam" else config.lam_scale * dual.lam

        def loss(params):
            regression = lean_regression(policy.velocity(params), base.velocity, value, **noise, inv_temp=inv_temp)
            total = OBJECTIVES[method](regression, lambda_eff, horizon)
            return total, path_kl(regression.delta_v, regression.ts, horizon)

        gradient, kl = jax.grad(loss, has_aux=True)(params)
        change, opt_state = optimizer.update(gradient, opt_state)
        params = jax.tree.map(jnp.add, params, change)
        if method != "qam":
            dual, _ = dual_step(dual, kl, config)
        return (params, polyak(average, params, tau), opt_state, dual), lambda_eff

    start = policy.params, policy.params, optimizer.init(policy.params), Dual.create()
    state, lambdas = jax.lax.scan(update, start, jnp.arange(budget.updates))
    return state[1], jnp.broadcast_to(lambdas, budget.updates)


def draw(key: Key, problem: Problem, batch_size: int) -> dict[str, Array]:
    """What a rollout takes."""
    chunk = batch_size, problem.base.dim
    return normals(key, x0=chunk, eps=(problem.num_steps, *chunk))


def realised_kl(problem: Problem, policy: Policy, params: Params, paths: int = 20_000, seed: int = 1) -> np.ndarray:
    """Path KL of R trained policies on fresh paths, (R,), in nats per action."""

    def one(params: Params) -> Array:
        noise = draw(named(jax.random.key(seed), "measure"), problem, paths)
        path = sample_path(policy.velocity(params), problem.base.velocity, **noise)
        return path_kl(path.delta_v, path.ts, problem.horizon)

    return np.asarray(jax.jit(lambda params: jax.lax.map(one, params), compiler_options=compiler_options())(params))


def with_start(policy: Policy, params: Params) -> Params:
    """Those of R trained policies and, last, of the policy at its start, which is the base flow."""
    return jax.tree.map(lambda x, start: jnp.concatenate([x, start[None]]), params, policy.params)
