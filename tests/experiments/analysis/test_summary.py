"""A run at a glance: the end of every phase, without diverged replicas, and each variant for itself."""

import shlex

from made_runs import EVAL, write_run

from experiments.analysis.summary import summarise

TRAIN = "env,task,agent,seed,phase,step,status,kl_budget,lambda,path_kl,critic_loss,flow_loss,variant\n"


def test_the_summary_of_a_sweep(tmp_path):
    rows = [
        {"task": task, "seed": seed, "phase": phase, "step": step, "success": success, "variant": f"kl_budget={eps}"}
        for phase, step, success in (("bc", 300, 0.1), ("offline", 1_000_000, 0.5), ("online", 50, 0.75))
        for task in (1, 2)
        for seed in (1, 2)
        for eps in (0.5, 1.0)
    ]
    rows[-1] |= {"status": "diverged", "success": "nan"}
    folder = write_run(tmp_path / "trqam-0", rows, columns=[*EVAL, "variant"], kl_budget=[0.5, 1.0])
    line = "cube-single,1,trqam,1,{},{},ok,{eps},2,{kl},1,1,kl_budget={eps}\n"
    places = (("offline", 1_000_000), ("online", 20), ("online", 50))
    train = [line.format(*place, eps=eps, kl=eps / 4) for place in places for eps in (0.5, 1.0)]
    (folder / "train.csv").write_text(TRAIN + "".join(train))
    text = summarise(folder).splitlines()
    assert text[1] == "cube-single: success, %"
    assert (
        " ".join(text[2].split()) == "task BC policy trqam, 1,000,000 updates trqam, 50 steps online seeds x episodes"
    )
    assert " ".join(text[4].split()) == "1, kl_budget=0.5 10.0 ± 0.0 50.0 ± 0.0 75.0 ± 0.0 2 x 50"
    assert " ".join(text[7].split()) == "2, kl_budget=1.0 10.0 ± 0.0 50.0 ± 0.0 75.0 (1 of 2 diverged) 2 x 50"
    of = "path KL over the last 30 steps, mean over 1 replica(s): {}, 25.0% of its budget of {}; lambda 2"
    assert text[8:10] == [of.format("0.125", "0.5"), of.format("0.250", "1")]
    assert (folder / "summary.png").exists()
    assert text[-1] == f"to look at it: python experiments/report.py {folder} --out=report.html"


def test_a_method_without_a_flow_has_its_plot(tmp_path):
    folder = write_run(tmp_path / "rebrac-0", [{}], agent="rebrac")
    row = "cube-single,1,rebrac,7,offline,1000000,ok,2,0.5\n"
    (folder / "train.csv").write_text("env,task,agent,seed,phase,step,status,critic_loss,mse\n" + row)
    assert "plot: " in summarise(folder)
    assert (folder / "summary.png").exists()


def test_a_budget_of_zero(tmp_path):
    folder = write_run(tmp_path / "trqam-0", [{}], kl_budget=0.0)
    (folder / "train.csv").write_text(TRAIN + "cube-single,1,trqam,7,offline,1000000,ok,0,100,0.25,1,1,\n")
    assert ": 0.250, with a budget of 0; lambda 100\n" in summarise(folder)


def test_the_command_that_it_ends_with_can_be_typed(tmp_path):
    folder = write_run(tmp_path / "a b [c] $d" / "rebrac-0", [{}], agent="rebrac")
    line = summarise(folder).splitlines()[-1]
    assert shlex.split(line.partition(": ")[2])[2] == str(folder)


def test_nothing_was_evaluated(tmp_path):
    text = summarise(write_run(tmp_path / "a"))
    assert "no evaluation was asked for" in text
    assert "report.py" not in text  # it would have nothing to show
