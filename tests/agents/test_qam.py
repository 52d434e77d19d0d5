"""QAM against the released implementation's reference vectors."""

from golden_vectors import Case, check_acting, check_adjoints, check_gradients, check_one_update

NOISE = {
    "next_action": "next_action_noise",
    "flow_x0": "flow_x0",
    "flow_t": "flow_t",
    "rollout_x0": "rollout_x0",
    "rollout_eps": "rollout_noise",
}
INFO = {
    "critic_loss": "critic/critic_loss",
    "flow_loss": "actor/flow_loss",
    "adjoint_loss": "actor/adj_loss",
    "adjoint_max": "actor/adj_max",
    "q_mean": "critic/q_mean",
}
CASE = Case("qam", NOISE, INFO)


def test_path_and_adjoints():
    check_adjoints(CASE, "qam", inv_temp=3.0)


def test_acts_with_the_fast_flow():
    check_acting(CASE, "qam")


def test_one_update():
    check_one_update(CASE, "qam")


def test_gradients():
    check_gradients(CASE, "qam")
