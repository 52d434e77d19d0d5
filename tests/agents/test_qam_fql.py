"""QAM-F against the released implementation's reference vectors."""

from golden_vectors import Case, check_adjoints, check_gradients, check_one_update

CASE = Case(
    "qam_fql",
    noise={
        "next_action": "next_action_noise",
        "distill_z": "extra_flow_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
        "rollout_x0": "rollout_x0",
        "rollout_eps": "rollout_noise",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/flow_loss",
        "adjoint_loss": "actor/adj_loss",
        "distill_loss": "actor/fql_distill_loss",
        "q_loss": "actor/fql_q_loss",
    },
)


def test_path_and_adjoints():
    check_adjoints(CASE, "qam_fql", inv_temp=3.0)


def test_one_update():
    check_one_update(CASE, "qam_fql")


def test_gradients():
    check_gradients(CASE, "qam_fql")
