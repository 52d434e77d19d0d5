"""FQL against the released implementation's reference vectors."""

from golden_vectors import Case, check_four_updates, check_gradients, check_one_update

CASE = Case(
    "fql",
    noise={
        "next_action": "next_action_noise",
        "distill_z": "distill_noise",
        "flow_x0": "flow_x0",
        "flow_t": "flow_t",
    },
    info={
        "critic_loss": "critic/critic_loss",
        "flow_loss": "actor/bc_flow_loss",
        "distill_loss": "actor/distill_loss",
        "q_mean": "critic/q_mean",
    },
)


def test_one_update():
    check_one_update(CASE, "fql")


def test_gradients():
    check_gradients(CASE, "fql")


def test_four_updates():
    """They also tell that nothing is clipped."""
    check_four_updates(CASE, "fql_steps")
