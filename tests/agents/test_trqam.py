"""TRQAM against the released implementation's reference vectors."""

from golden_vectors import (
    Case,
    Vectors,
    assert_close,
    check_acting,
    check_adjoints,
    check_four_updates,
    check_gradients,
    check_one_update,
    check_one_update_for_a_gpu,
)

CASE = Case(
    "trqam",
    noise={
        "next_action": "next_action_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "rollout_x0": "rollout_x0",
        "rollout_eps": "rollout_noise",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/flow_loss",
        "adjoint_loss": "actor/adj_loss",
        "path_kl": "actor/path_kl",
        "adjoint_max": "actor/adj_max",
        "lambda": "dual/lambda",
        "kl_average": "dual/kl_ema",
    },
)


def test_path_and_adjoints():
    check_adjoints(CASE, "trqam")


def test_acts_with_the_fast_flow():
    check_acting(CASE, "trqam")


def test_one_update():
    new = check_one_update(CASE, "trqam")
    assert_close(new.dual.lam, Vectors("trqam").arrays["out/new_lam"], "lambda")


def test_one_update_for_a_gpu():
    check_one_update_for_a_gpu(CASE, "trqam")


def test_gradients():
    check_gradients(CASE, "trqam")


def test_four_updates():
    check_four_updates(CASE, "trqam_steps")
