"""Closed forms for a Gaussian base N(m, s^2 I) reached by a straight-line flow from N(0, I)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from trqam_jax.adjoint import lean_adjoint, matching_loss, value_gradient
from trqam_jax.flow import flow_matching_loss, interpolate, sample_ode
from trqam_jax.sde import noise_variance, sample_path
from trqam_jax.trust_region import path_kl

M, S = 0.7, 0.5


def slope(t, s=S):
    """d v / d x of the exact velocity."""
    return (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2)


def velocity(x, t, m=M, s=S):
    """The exact velocity m + k (x - t m)."""
    return m + slope(t, s) * (x - t * m)


def tilted_by_linear(g):
    """The velocity of N(m + s^2 g, s^2): the optimum for the reward g x."""
    return lambda x, t: velocity(x, t) + (1 - t) * S**2 / ((1 - t) ** 2 + t**2 * S**2) * g


def rollout(fine_tuned, num_steps, size=4000, dim=4, seed=0):
    x0, eps = (
        jax.random.normal(jax.random.key(seed + i), s) for i, s in enumerate([(size, dim), (num_steps, size, dim)])
    )
    return sample_path(fine_tuned, velocity, x0, eps)


def test_the_exact_velocity_minimises_flow_matching():
    """Its loss is the irreducible variance E|x1 - x0 - E[x1 - x0 | x_t]|^2; a shifted velocity costs shift^2 more."""
    keys = jax.random.split(jax.random.key(0), 3)
    x0, x1 = jax.random.normal(keys[0], (200_000, 1)), M + S * jax.random.normal(keys[1], (200_000, 1))
    t, valid = jax.random.uniform(keys[2], (200_000, 1)), jnp.ones(200_000)
    exact = flow_matching_loss(velocity, x1, x0, t, valid)
    grid = np.linspace(0, 1, 2001)
    c = (1 - grid) ** 2 + grid**2 * S**2
    assert exact == pytest.approx(np.mean(1 + S**2 - (grid * S**2 - (1 - grid)) ** 2 / c), rel=0.01)
    shifted = flow_matching_loss(lambda x, t: velocity(x, t) + 0.3, x1, x0, t, valid)
    assert shifted - exact == pytest.approx(0.09, rel=0.02)


def test_flow_matching_weighs_by_valid_and_counts_its_zeros():
    x1, x0, t = jnp.ones((4, 2)), jnp.zeros((4, 2)), jnp.full((4, 1), 0.5)
    loss = flow_matching_loss(lambda x, t: jnp.zeros_like(x), x1, x0, t, jnp.array([1.0, 0.0, 0.0, 0.0]))
    assert loss == pytest.approx(0.25)


def test_interpolation_ends_at_noise_and_data():
    noise, end = jnp.array([2.0]), jnp.array([5.0])
    assert interpolate(noise, end, 0.0) == 2.0
    assert interpolate(noise, end, 1.0) == 5.0


@pytest.mark.parametrize("num_steps", [10, 400])
def test_ode_is_the_exact_affine_map(num_steps):
    """Euler on an affine velocity: x <- (1 + h k) x + h m (1 - t k), composed by hand."""
    x0 = jnp.linspace(-2, 2, 9)[:, None]
    expected = np.asarray(x0, np.float64)
    for t in np.arange(num_steps) / num_steps:
        expected = expected + (M + slope(t) * (expected - t * M)) / num_steps
    np.testing.assert_allclose(sample_ode(velocity, x0, num_steps), expected, rtol=2e-5, atol=2e-5)
    if num_steps == 400:
        np.testing.assert_allclose(expected, M + S * np.asarray(x0), atol=5e-3)


def test_sde_of_the_base_keeps_its_marginals():
    """The memoryless SDE has the flow's marginals N(t m, (1 - t)^2 + t^2 s^2) at every t."""
    path = rollout(velocity, 400, size=20_000, dim=1)
    for i in (40, 200, 360, 399):
        t = float(path.ts[i])
        assert path.xs[i].mean() == pytest.approx(t * M, abs=0.02)
        assert path.xs[i].std() == pytest.approx(np.sqrt((1 - t) ** 2 + t**2 * S**2), rel=0.02)
    assert path.x1.mean() == pytest.approx(M, abs=0.02)
    assert path.x1.std() == pytest.approx(S, rel=0.03)


def test_sde_is_memoryless():
    """Start and end of a path are independent, which is what makes the tilted optimum exact; the ODE's are not."""
    path = rollout(velocity, 400, size=20_000, dim=1)
    x0, x1 = np.asarray(path.xs[0])[:, 0], np.asarray(path.x1)[:, 0]
    assert abs(np.corrcoef(x0, x1)[0, 1]) < 0.03


def test_noise_is_finite_on_the_grid_and_unused_in_the_last_step():
    ts = jnp.arange(10) / 10
    variance = noise_variance(ts, 0.1)
    assert jnp.isfinite(variance).all()
    np.testing.assert_allclose(variance[0], 22.0, rtol=1e-6)  # 2 (1 + h) / h
    eps = jax.random.normal(jax.random.key(0), (10, 3, 2))
    ends = [sample_path(velocity, velocity, jnp.ones((3, 2)), e).x1 for e in (eps, eps.at[-1].set(9.0))]
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize("num_steps", [4, 10, 50])
def test_lean_adjoint_is_the_discrete_product(num_steps):
    """a_i = a_1 prod_{j >= i} (1 + h (2 k(t_j + h) - 1 / (t_j + h)))."""
    path = rollout(tilted_by_linear(0.8), num_steps, size=3, dim=2)
    a1 = jnp.array([[1.0, -2.0]] * 3)
    h, times = 1 / num_steps, np.arange(1, num_steps + 1) / num_steps
    factors = 1 + h * (2 * slope(times) - 1 / times)
    expected = np.cumprod(factors[::-1])[::-1][:, None, None] * np.asarray(a1)
    np.testing.assert_allclose(lean_adjoint(velocity, path.xs, path.ts, a1), expected, rtol=2e-4, atol=1e-5)


def test_lean_adjoint_tends_to_its_closed_form():
    """a_t = (s^2 t / c) a_1 in continuous time."""
    path = rollout(velocity, 2000, size=1, dim=1)
    adjoints = np.asarray(lean_adjoint(velocity, path.xs, path.ts, jnp.ones((1, 1))))[:, 0, 0]
    ts = np.asarray(path.ts)
    expected = S**2 * ts / ((1 - ts) ** 2 + ts**2 * S**2)
    np.testing.assert_allclose(adjoints[200:], expected[200:], rtol=0.01)


def test_adjoint_start_is_zero_where_the_action_is_clipped():
    value = lambda a: jnp.stack([(3 * a).sum(-1), (5 * a).sum(-1)])
    gradient = value_gradient(value, jnp.array([[0.5, 1.5], [-2.0, -0.5]]))
    np.testing.assert_allclose(gradient, [[4.0, 0.0], [0.0, 4.0]])


def test_matching_loss_vanishes_at_the_linear_tilt():
    """For Q = g x, dv = -sigma^2 a / 2 with the lean adjoint tilts the velocity; on fine grids the loss tends to 0."""
    g = 1.3
    losses = []
    for num_steps in (10, 100, 1000):
        path = rollout(tilted_by_linear(g), num_steps, size=8, dim=1)
        times = path.ts[:, None, None]
        adjoints = lean_adjoint(velocity, path.xs, path.ts, jnp.full((8, 1), -g))
        delta_v = tilted_by_linear(g)(path.xs, times) - velocity(path.xs, times)
        losses.append(float(matching_loss(delta_v, adjoints, path.ts)) / num_steps)
    assert losses[2] < losses[1] < losses[0]
    assert losses[2] < 2e-2 * losses[0]


def test_matching_loss_gradient_has_its_minimum_where_the_paper_says():
    """d/d dv = 0 at dv = -sigma^2 a / 2, for any lambda; and the value there is 0."""
    ts, lam = jnp.arange(5) / 5, 0.37
    adjoints = jax.random.normal(jax.random.key(0), (5, 2, 3))
    best = -0.5 * (noise_variance(ts, 0.2) / lam)[:, None, None] * adjoints
    assert matching_loss(best, adjoints, ts, lam) == pytest.approx(0.0, abs=1e-4)
    gradient = jax.grad(lambda delta_v: matching_loss(delta_v, adjoints, ts, lam))(best)
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def quadratic(kappa, mu):
    """Mean, standard deviation and velocity of the optimum for -(kappa / 2) (x - mu)^2, and its KL per dimension."""
    s2 = S**2 / (1 + kappa * S**2)
    m = (M + kappa * S**2 * mu) / (1 + kappa * S**2)
    kl = 0.5 * (s2 / S**2 - 1 - np.log(s2 / S**2)) + (m - M) ** 2 / (2 * S**2)
    return m, np.sqrt(s2), lambda x, t: velocity(x, t, m, np.sqrt(s2)), kl


def matched(g, num_steps):
    """Minimiser of the matching loss on the grid for Q = g x: dv_i = -g(t_i)^2 a_i / 2, a_i the discrete adjoint."""
    h, ts = 1 / num_steps, jnp.arange(num_steps) / num_steps
    adjoints = lean_adjoint(velocity, jnp.zeros((num_steps, 1, 1)), ts, jnp.full((1, 1), -g))
    gaps = -noise_variance(ts, h) / 2 * adjoints[:, 0, 0]
    return lambda x, t: velocity(x, t) + gaps[jnp.round(t * num_steps).astype(int)]


@pytest.mark.parametrize("num_steps", [10, 1000])
def test_linear_tilt(num_steps):
    """Mean and path KL of the matched flow: the K = 10 grid's known bias, and the closed form as K grows."""
    g, dim = 1.3, 4
    tilted = matched(g, num_steps)
    path = rollout(tilted, num_steps, size=4000 if num_steps > 10 else 40_000, dim=dim)
    times = path.ts[:, None, None]
    kl = float(path_kl(tilted(path.xs, times) - velocity(path.xs, times), path.ts, horizon=1)) / dim
    ode = sample_ode(tilted, jnp.zeros((1, dim)), num_steps).mean()
    if num_steps == 10:
        assert kl == pytest.approx(0.3084, abs=1e-4)
        assert ode == pytest.approx(1.0402, abs=1e-4)
        assert path.x1.mean() == pytest.approx(1.149, abs=0.01)
    else:
        assert kl == pytest.approx(0.2122, abs=1e-4)
        assert kl == pytest.approx(S**2 * g**2 / 2, rel=6e-3)
        assert ode == pytest.approx(1.0244, abs=1e-4)
        assert path.x1.mean() == pytest.approx(M + S**2 * g, abs=0.02)
        assert path.x1.std() == pytest.approx(S, rel=0.03)


def test_quadratic_tilt():
    """Path KL equals terminal KL, .510012 nats for kappa = 3, mu = -.4, because the SDE is memoryless."""
    m, s, tilted, kl = quadratic(3.0, -0.4)
    assert (m, s**2, kl) == pytest.approx((0.22857, 0.14286, 0.510012), abs=1e-5)
    path = rollout(tilted, 1000, size=4000, dim=4)
    times = path.ts[:, None, None]
    measured = path_kl(tilted(path.xs, times) - velocity(path.xs, times), path.ts, horizon=1) / 4
    assert measured == pytest.approx(kl, rel=0.03)
    assert path.x1.mean() == pytest.approx(m, abs=0.02)
    assert path.x1.std() == pytest.approx(s, rel=0.03)


def test_path_kl_is_per_action_of_the_chunk():
    delta_v, ts = jnp.ones((4, 2, 6)), jnp.arange(4) / 4
    assert path_kl(delta_v, ts, horizon=3) == pytest.approx(float(path_kl(delta_v, ts, horizon=1)) / 3)
