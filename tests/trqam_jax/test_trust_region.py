"""The dual variable: one step by hand, and its fixed point in closed form."""

import jax
import jax.numpy as jnp
import pytest

from trqam_jax.trust_region import Dual

SETTINGS = dict(eta=0.01, average=0.1, clip=2.0, low=0.01, high=100.0)


def test_one_step_by_hand():
    dual = Dual.create().update(jnp.array(3.0), budget=0.5, **SETTINGS)
    assert dual.kl == pytest.approx(0.1 * 1.0)  # clipped at twice the budget, averaged from 0
    assert dual.lam == pytest.approx(1.0 + 0.01 * (0.1 - 0.5))


def test_lambda_stays_in_its_bracket():
    low = Dual.create()
    for _ in range(3):
        low = low.update(jnp.array(0.0), budget=1e4, **SETTINGS)
    assert low.lam == pytest.approx(0.01)
    high = Dual(jnp.array(99.9), jnp.array(1e6)).update(jnp.array(9.0), budget=1.0, **SETTINGS)
    assert high.lam == pytest.approx(100.0)


def test_not_a_number_is_not_hidden():
    assert jnp.isnan(Dual.create().update(jnp.array(jnp.nan), budget=1.0, **SETTINGS).lam)


@pytest.mark.parametrize(("budget", "horizon"), [(0.1, 1), (0.5, 5)])
def test_fixed_point(budget, horizon):
    """For Q = q x on a base of deviation s, KL = s^2 |q|^2 / (2 H lambda^2): lambda* = s |q| / sqrt(2 H eps)."""
    s, q = 0.5, 2.0
    star = s * q / (2 * horizon * budget) ** 0.5

    def step(dual, _):
        return dual.update(s**2 * q**2 / (2 * horizon * dual.lam**2), budget=budget, **SETTINGS), None

    dual, _ = jax.lax.scan(step, Dual.create(), None, length=20_000)
    assert dual.lam == pytest.approx(star, rel=1e-3)
    assert dual.kl == pytest.approx(budget, rel=1e-3)


def test_a_larger_budget_raises_lambda_less():
    """Eight budgets train as eight replicas."""
    update = lambda budget: Dual.create().update(jnp.array(1.0), budget=budget, **SETTINGS)
    after = jax.vmap(update)(jnp.linspace(0.5, 4.0, 8))
    assert (jnp.diff(after.lam) < 0).all()
