"""What a sweep would cost."""

import pytest
from made_sweeps import request

from experiments.sweeps.costs import Cost, costs
from experiments.sweeps.plan import expand
from trqam_jax.errors import UserError


def test_costs_are_of_the_measured_size_and_the_nearest_number_of_replicas(tmp_path):
    file = tmp_path / "measured.csv"
    rows = ["fql,now,2,512x512x512x512,10,A", "fql,now,4,512x512x512x512,20,A", "fql,now,8,512x512x512x512,50,A"]
    rows += [
        "fql,before,6,512x512x512x512,99,A",
        "fql,now,6,1024x1024x1024x1024,99,A",
        "trqam,now,8,512x512x512x512,4,B",
    ]
    file.write_text("\n".join(["agent,loop,replicas,hidden_dims,updates_per_second,device", *rows, ""]))
    jobs = expand(request(envs=["scene"], protocol="trqam"))
    found = costs(jobs.values(), file)
    assert found == {"fql/scene": Cost(6e6 / 20, "A"), "trqam/scene": Cost(6e6 / 4, "B")}
    for other in ({"protocol": "quick"}, {"overrides": {"agent.flow_steps": "5"}}, {"envs": ["cube-triple"]}):
        others = expand(request(**{"envs": ["scene"], "protocol": "trqam", **other}))
        assert not {job.agent for job in others.values() if job.name in costs(others.values(), file)} - {"fql"}
    file.write_text("agent,replicas\nfql,1\n")
    with pytest.raises(UserError, match="updates_per_second, device"):
        costs(jobs.values(), file)
