"""Observations scaled by their range: the closed form, what is constant, and the way through a file."""

import json

import numpy as np
import pytest

from trqam_jax.errors import UserError
from trqam_jax.scaling import Scaling

OBSERVATIONS = np.array([[0.0, -3.0, 0.7], [10.0, 1.0, 0.7], [2.5, -1.0, 0.7]], np.float32)


def test_the_closed_form():
    scaling = Scaling.of(OBSERVATIONS)
    scaled = scaling.apply(OBSERVATIONS)
    assert scaled.dtype == np.float32
    low, high = OBSERVATIONS.min(0).astype(float), OBSERVATIONS.max(0).astype(float)
    expected = 2 * ((OBSERVATIONS - low) / (high - low + 1e-6) - 0.5)
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scaled[:, 0], [-1, 1, -0.5], rtol=0, atol=1e-6)
    assert (np.abs(scaled) <= 1).all()
    np.testing.assert_array_equal(scaling.apply(np.stack([OBSERVATIONS] * 2)), np.stack([scaled] * 2))
    np.testing.assert_array_equal(scaling.apply(OBSERVATIONS.astype(np.float64)), scaled)
    assert scaling.apply(np.array([20.0, 0, 0.7]))[0] > 1


def test_what_is_constant_becomes_minus_one():
    scaling = Scaling.of(OBSERVATIONS)
    assert (scaling.apply(OBSERVATIONS)[:, 2] == -1).all()
    assert np.isfinite(scaling.apply(OBSERVATIONS + np.float32(1e3))).all()


def test_a_file_holds_it_to_the_bit(tmp_path):
    scaling = Scaling.of(np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * np.float32(1e-3))
    assert scaling.low.dtype == np.float32
    scaling.write(tmp_path / "scaling.json")
    for again in (
        Scaling.read(tmp_path / "scaling.json"),
        Scaling.from_json(json.loads(json.dumps(scaling.to_json()))),
    ):
        for name in Scaling._fields:
            assert getattr(again, name).dtype == np.float32
            np.testing.assert_array_equal(getattr(again, name), getattr(scaling, name))


@pytest.mark.parametrize(
    "content",
    [
        {},
        [1.0],
        "low",
        {"low": [0.0]},
        {"low": [0.0], "high": [1.0, 2.0]},
        {"low": [1.0], "high": [0.0]},
        {"low": [0.0], "high": ["x"]},
        {"low": [[0.0], [1.0, 2.0]], "high": [1.0]},
        {"low": 0.0, "high": 1.0},
        {"low": [0.0], "high": [float("nan")]},
        {"low": [0.0], "high": [float("inf")]},
    ],
)
def test_what_is_no_scaling_is_one_line(content, tmp_path):
    with pytest.raises(UserError, match=r"no scaling, expected as many finite numbers") as error:
        Scaling.from_json(content)
    assert "\n" not in str(error.value)
    path = tmp_path / "scaling.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"^{path}: damaged"):
        Scaling.read(path)
