"""(b) and (d): path KL and lambda at eight budgets, with the KL inside the dynamics and outside of them."""

import jax
import jax.numpy as jnp
import numpy as np

import agents
from agents.matching import dual_step
from experiments.exact_study import closed_forms, policies
from experiments.exact_study.fine_tune import Problem, fine_tune, realised_kl
from experiments.exact_study.flows import Mixture
from experiments.exact_study.results import NO_GRID, Panel, Row
from experiments.exact_study.size import Size
from trqam_jax.agent_config import AgentConfig
from trqam_jax.trust_region import Dual
from trqam_jax.types import Array

KL_BUDGETS = np.array([0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0])
HORIZON = 2  # a chunk of two actions of one dimension
PULL = np.full(2, 450**0.5)  # q of Q = q.x, |q| = 30
BUDGET_STEPS = 10  # as in the agents
SLIM = Mixture.create([[-0.3, -0.3]], [0.2], [1.0])


def linear(x: Array, error: Array) -> Array:
    """Q = q.x."""
    return x @ jnp.asarray(PULL, jnp.float32)


def budgets(size: Size) -> tuple[Panel, Panel]:
    """A Gaussian, a linear critic and eight KL budgets as eight replicas: (TRQAM, its ablation)."""
    problem = Problem(SLIM, linear, BUDGET_STEPS, HORIZON)
    policy = policies.affine(SLIM, BUDGET_STEPS)
    at_one = closed_forms.linear_kl(float(SLIM.stds[0]), PULL, HORIZON)
    on_grid = at_one * closed_forms.linear_on_grid(float(SLIM.stds[0]), BUDGET_STEPS).kl
    rows: dict[str, list[Row]] = {"trqam": [], "trqam_external": []}
    after = external_kl(on_grid, size.budgets.updates)
    drawn = {"at_one": at_one, "on_grid": on_grid, "expected": after}
    for method, own in rows.items():
        trained = fine_tune(method, problem, policy, {"kl_budget": KL_BUDGETS}, size.budgets)
        kl = realised_kl(problem, policy, trained.params)
        drawn[method] = kl, trained.lambda_eff
        for i, budget in enumerate(KL_BUDGETS):
            case = f"budget {budget:g}"
            if method == "trqam":
                exact, discrete = (at_one / budget) ** 0.5, (on_grid / budget) ** 0.5
                own.append(Row("b", case, "path KL per action", budget, NO_GRID, kl[i]))
                own.append(Row("b", case, "lambda", exact, discrete, trained.lambda_eff[i]))
            else:
                own.append(Row("d", case, "path KL, external", budget, after[i], kl[i]))
    return Panel(rows["trqam"], drawn), Panel(rows["trqam_external"], drawn)


def external_kl(kl_at_one: float, updates: int) -> np.ndarray:
    """Path KL of the ablation at the eight budgets after so many dual steps, if the flow were optimal at each.

    A penalty of weight w gives the flow of lambda = 1 + w / (2 H K), so KL(w) = KL(lambda = 1) / (1 + w / (2 H K))^2.
    """
    config = AgentConfig.create(agents.settings("trqam_external"), {"kl_budget": KL_BUDGETS})

    def kl_of(lam: Array, config: AgentConfig) -> Array:
        return kl_at_one / (1 + config.lam_scale * lam / (2 * HORIZON * BUDGET_STEPS)) ** 2

    def run(config: AgentConfig) -> Array:
        step = lambda dual, _: (dual_step(dual, kl_of(dual.lam, config), config)[0], None)
        return kl_of(jax.lax.scan(step, Dual.create(), None, updates)[0].lam, config)

    return np.asarray(jax.jit(jax.vmap(run))(config.broadcast(len(KL_BUDGETS))))
