"""Stands for experiments/main.py in a sweep's tests: leaves what a run would leave, and does as `do.json` has it.

{job's name: what}: "fail", "crash" (killed), "slow" (until a signal; then status 75, and the next start finishes),
"broken 5" (on the GPU 5 it ends as a run whose device failed).
"""

import json
import os
import pathlib
import signal
import sys
import time

values = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
group = pathlib.Path(values["out_dir"]) / values["group"]
jobs = json.loads((group / "sweep" / "manifest.json").read_text())["jobs"]
(job,) = [job for job in jobs if job["argv"] == sys.argv[1:]]
orders = group.parent / "do.json"
what = json.loads(orders.read_text()).get(job["name"]) if orders.exists() else None
place = os.environ.get("CUDA_VISIBLE_DEVICES", "")
if "TRQAM_JAX_PROCESSORS" in os.environ:
    place = f"processors:{','.join(map(str, sorted(os.sched_getaffinity(0))))}"
with (group.parent / "diary").open("a") as diary:
    diary.write(f"{job['name']} {place}\n")
folder = group / job["env"] / f"{job['agent']}-{jobs.index(job)}"
folder.mkdir(parents=True, exist_ok=True)
(folder / "config.json").write_text(json.dumps(job["settings"]))
if what == "fail":
    sys.exit("error: asked to fail")
if what == f"broken {os.environ.get('CUDA_VISIBLE_DEVICES', '')}":
    print("error: the device failed", file=sys.stderr)
    sys.exit(69)
if what == "crash":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "slow" and not (folder / "train.csv").exists():

    def stop(*_):
        (folder / "train.csv").write_text("task,seed,phase,step,loss\n1,0,offline,7,0\n")
        print("interrupted; the same command goes on from there", file=sys.stderr)
        sys.exit(75)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)
    (folder / "under-way").touch()
    while True:
        time.sleep(0.05)
print("done")
(folder / "DONE").touch()
