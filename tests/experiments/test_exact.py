"""The exact study at a smaller size: the properties that its table and figure show."""

import csv
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments import exact
from experiments.exact_study import closed_forms, policies
from experiments.exact_study.budgets import KL_BUDGETS, budgets
from experiments.exact_study.density import LINE, RING, one_density
from experiments.exact_study.fine_tune import OBJECTIVES, Budget, Problem, fine_tune
from experiments.exact_study.flows import Mixture
from experiments.exact_study.measure import terminals
from experiments.exact_study.planted_error import planted_error
from experiments.exact_study.results import Panel, table
from experiments.exact_study.size import Size
from experiments.exact_study.steps import expected, steps
from trqam_jax.adjoint import lean_regression
from trqam_jax.networks import bind

SMALL = Size(
    density=Budget(800, 64),
    density_steps=30,
    bumps=(24, 8),
    budgets=Budget(10_000, 4, 0.1),
    errors=Budget(2000, 16),
    error_steps=20,
    steps=Budget(600, 16),
)
GAUSSIAN = Mixture.create([[0.7]], [0.5], [1.0])


@pytest.fixture(scope="module")
def on_budgets():
    """(TRQAM's panel, its ablation's)."""
    return budgets(SMALL)


@pytest.fixture(scope="module")
def errors():
    return planted_error(SMALL)


@pytest.fixture(scope="module")
def line():
    return one_density("1-D, 3 modes", SMALL)


@pytest.fixture(scope="module")
def grids():
    return steps(SMALL, (5, 20))


def terminal(velocity, dim, num_steps):
    """Of a velocity without parameters."""
    (found,) = terminals(lambda _: velocity, jnp.zeros(1), dim, num_steps)
    return found


def values(rows, quantity):
    """(exact, on the grid, measured) of the rows of one quantity, each an array."""
    return np.array([row[3:] for row in rows if row.quantity == quantity]).T


# ---- what is exact


@pytest.mark.parametrize("base", [LINE, RING], ids=["line", "ring"])
def test_the_velocity_is_the_mixtures(base, monkeypatch):
    """Its ODE ends in the mixture, as far as 200 steps go; a velocity that is off does not."""
    monkeypatch.setattr("experiments.exact_study.measure.CELLS", {1: 1000, 2: 60})
    assert terminal(base.velocity, base.dim, 200).total_variation(base.log_density) < 0.015
    shifted = lambda x, t: base.velocity(x, t) + 0.5
    assert terminal(shifted, base.dim, 200).total_variation(base.log_density) > 0.1


def test_total_variation_of_two_gaussians():
    """2 Phi(d / 2) - 1 for unit Gaussians a distance d apart; noise itself is the policy of a velocity of zero."""
    policy = terminal(lambda x, t: jnp.zeros_like(x), 1, 1)
    for distance in (0.0, 0.5, 2.0):
        other = Mixture.create([[distance]], [1.0], [1.0])
        expected_tv = math.erf(distance / 2 / math.sqrt(2))
        assert policy.total_variation(other.log_density) == pytest.approx(expected_tv, abs=1e-4)
        assert policy.kl(other.log_density) == pytest.approx(distance**2 / 2, abs=1e-4)


def test_closed_forms_agree_with_quadrature():
    """And with values worked out by hand: kappa = 3, mu = -0.4 on N(0.7, 0.5^2); the clip is out of the way."""
    quadratic = closed_forms.quadratic_tilt(np.array([0.7]), 0.5, 3.0, np.array([-0.4]), np.zeros(1), 1.0)
    assert (quadratic.mean[0], quadratic.std**2, quadratic.kl) == pytest.approx((0.22857, 0.14286, 0.510012), abs=1e-5)
    base = Mixture.create([[0.1]], [0.15], [1.0])
    found = closed_forms.tilted(base, lambda x: -1.5 * jnp.square(x[..., 0] + 0.1) + 2 * x[..., 0])
    ours = closed_forms.quadratic_tilt(np.array([0.1]), 0.15, 3.0, np.array([-0.1]), np.array([2.0]), 1.0)
    assert found.kl == pytest.approx(ours.kl, rel=1e-3)
    assert closed_forms.linear_kl(0.15, np.array([3.0, 4.0]), 2) == pytest.approx(0.15**2 * 25 / 4)
    assert closed_forms.tilt_at_budget(
        lambda beta: closed_forms.quadratic_tilt(np.zeros(2), 0.2, 3.0, np.ones(2), np.zeros(2), beta), 0.3
    ).kl == pytest.approx(0.3, rel=1e-6)


def test_the_linear_case_on_a_grid():
    """K = 10, s = 0.5, g = 1.3: tilted mean 1.0402 and KL 0.3084, where continuous time has 1.025 and 0.2113."""
    grid = closed_forms.linear_on_grid(0.5, 10)
    assert 0.7 + grid.shift * 0.25 * 1.3 == pytest.approx(1.0402, abs=1e-4)
    assert grid.kl * 0.25 * 1.3**2 / 2 == pytest.approx(0.3084, abs=1e-4)
    assert closed_forms.linear_on_grid(0.5, 5000) == pytest.approx((1, 1, 1), abs=2e-3)


# ---- that it is the library's method


@pytest.mark.parametrize("method", OBJECTIVES)
def test_the_study_descends_what_the_agent_descends(method):
    agent, batch, key = tiny.agent(method), tiny.batch(), jax.random.key(3)
    noise = agent.draw(key, len(batch.observations))
    flow = lambda params: bind(agent.flow_network, params, batch.observations)
    critic = bind(agent.critic_network, agent.train.targets["critic"], batch.observations)
    base = flow(agent.train.targets["actor_slow"])

    def loss(params):
        regression = lean_regression(flow(params), base, critic, noise["rollout_x0"], noise["rollout_eps"])
        return OBJECTIVES[method](regression, 3.0, tiny.SPEC.horizon)  # lambda starts at 1, lam_scale is 3

    ours = jax.jit(jax.grad(loss))(agent.train.params["actor_fast"])
    tiny.assert_trees_close(ours, tiny.gradients(agent, key)["actor_fast"])


def test_policies_start_as_the_base():
    x, t = jnp.array([[0.3, -0.2]]), 0.25
    for policy in (policies.affine(RING, 4), policies.bumps(RING, 4, 6)):
        np.testing.assert_array_equal(policy.velocity(policy.params)(x, t), RING.velocity(x, t))


# ---- what comes out


def test_the_fine_tuned_density_is_the_exact_tilt(line):
    """(a)"""
    rows, _ = line
    before, after = (values(rows, f"TV, {name}")[2, 0] for name in ("BC policy", "fine-tuned"))
    assert before > 0.3
    assert after < 0.12
    exact_kl, _, kl = values(rows, "terminal KL")
    np.testing.assert_allclose(kl, exact_kl, rtol=0.3)


def test_the_path_kl_is_on_its_budget_and_lambda_at_its_closed_form(on_budgets):
    """(b)"""
    budget, _, kl = values(on_budgets[0].rows, "path KL per action")
    np.testing.assert_array_equal(budget, KL_BUDGETS)
    np.testing.assert_allclose(kl, budget, rtol=0.05)
    _, on_grid, found = values(on_budgets[0].rows, "lambda")
    np.testing.assert_allclose(found, on_grid, rtol=0.05)


def test_outside_the_dynamics_the_path_kl_leaves_its_budget(on_budgets):
    """(d) Where it is small; and goes where the dual's recursion on the closed form says, or lags a little behind."""
    budget, predicted, kl = values(on_budgets[1].rows, "path KL, external")
    assert (kl[budget <= 0.2] > 10 * budget[budget <= 0.2]).all()
    np.testing.assert_allclose(kl, predicted, rtol=0.25)
    np.testing.assert_allclose(kl[budget >= 2], budget[budget >= 2], rtol=0.05)


def test_a_wrong_critic_breaks_qam_and_not_trqam(errors):
    """(c)"""
    of = lambda method, quantity: values([row for row in errors.rows if row.case.startswith(method)], quantity)
    _, _, qam_kl = of("qam", "terminal KL")
    assert (np.diff(qam_kl) > 0).all()
    assert qam_kl[-1] > 20 * qam_kl[0]
    budget, _, kl = of("trqam", "terminal KL")
    np.testing.assert_allclose(kl, budget, rtol=0.35)
    base = of("BC", "true value")[0, 0]
    assert of("qam", "true value")[2, 0] > base > of("qam", "true value")[2, -1] + 2
    assert (of("trqam", "true value")[2] > base - 0.15).all()


def test_the_bias_falls_as_the_steps_grow(grids):
    """(e) And is the closed form's of that many steps."""
    for quantity in ("path KL", "shift of the mean", "TV"):
        exact_value, on_grid, found = values(grids.rows, quantity)
        bias = np.abs(found - exact_value)
        assert bias[1] < bias[0]
        np.testing.assert_allclose(found, on_grid, rtol=0.05, atol=0.005)
    biases = np.abs(np.array([expected(count) for count in (5, 10, 20, 50, 100, 1000)]) - expected(100_000))
    assert (np.diff(biases, axis=0) < 0).all()


# ---- the command


def test_two_runs_give_equal_rows(grids):
    again = steps(SMALL, (5,)).rows
    assert again == grids.rows[: len(again)]


def test_the_command_writes_table_rows_and_figure(on_budgets, errors, line, grids, tmp_path, monkeypatch, capsys):
    rows, drawn = line
    panels = {"a": Panel(rows, {"line": drawn}), "b": on_budgets[0], "c": errors, "d": on_budgets[1], "e": grids}
    monkeypatch.setattr(exact, "run", lambda: panels)
    monkeypatch.setattr(exact, "keep_compiled_programs", lambda: None)
    exact.main([f"--out={tmp_path / 'new'}"])
    everything = list(itertools.chain.from_iterable(panel.rows for panel in panels.values()))
    assert capsys.readouterr().out.startswith(table(everything))
    with (tmp_path / "new" / "exact.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["measured"]) for row in written] == pytest.approx([row.measured for row in everything])
    assert (tmp_path / "new" / "exact.png").stat().st_size > 20_000


def test_a_ragged_policy_is_refused():
    """A velocity that folds the line has no density by the change of variables."""
    with pytest.raises(ArithmeticError, match="folded"):
        terminal(lambda x, t: -3 * x * (x > 0), 1, 1)


def test_replicas_train_as_they_do_alone():
    problem = Problem(GAUSSIAN, lambda x, error: error * x[..., 0], 4)
    policy = policies.affine(GAUSSIAN, 4)
    both = fine_tune("qam", problem, policy, {}, Budget(20, 8), errors=np.array([0.5, 1.0]))
    alone = fine_tune("qam", problem, policy, {}, Budget(20, 8), errors=np.array([1.0]))
    np.testing.assert_allclose(both.params[1], alone.params[0], rtol=1e-5, atol=1e-6)
