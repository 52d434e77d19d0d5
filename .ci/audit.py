"""Known vulnerabilities of the locked packages: python .ci/audit.py LOCK...; `make audit` brings pip-audit before it.

The exit status is 1 if one is known. Where no database of vulnerabilities can be asked, nothing is known either: then
it says that nothing was checked, and how many packages were, where only some could be.
"""

import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

TOOL = pathlib.Path(__file__).parents[1] / ".venv-lock" / "bin" / "pip-audit"
SERVICES = ("pypi", "osv")  # pip-audit's names of the databases; the second is asked where the first has nothing
SECONDS = 180
NO_ANSWER = ("ConnectionError", "Timeout", "ServiceError", "HTTPError", "SSLError", "ProxyError")


class Found(NamedTuple):
    """What a database knows of a lock file's packages: how many of how many it could check, and what is wrong."""

    checked: int
    packages: int
    problems: list[str]


def ask(service: str, file: str) -> Found | None:
    """None if the database gives no answer."""
    how = ["--format=json", "--progress-spinner=off", "--disable-pip", "--timeout=15"]
    command = [TOOL, *how, f"--vulnerability-service={service}", f"--requirement={file}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or [""])[-1]
        if any(word in last for word in NO_ANSWER):
            return None
        sys.exit(f"{file}: pip-audit ended with status {done.returncode}: {last}")
    return read(json.loads(done.stdout))


def read(answer: dict) -> Found:
    """Of pip-audit's JSON."""
    packages = answer["dependencies"]
    checked = [package for package in packages if "vulns" in package]
    problems = [
        f"{package['name']} {package['version']}: {', '.join([one['id'], *one.get('aliases', [])])}, fixed in "
        f"{', '.join(one['fix_versions']) or 'no version yet'}"
        for package in checked
        for one in package["vulns"]
    ]
    return Found(len(checked), len(packages), problems)


def audit(file: str) -> list[str]:
    """Say what was checked; returns what is wrong."""
    best: Found | None = None
    for service in SERVICES:
        found = ask(service, file)
        if found is not None and (best is None or found.checked > best.checked):
            best = found
        if best is not None and best.checked == best.packages:
            break
    if best is None or not best.checked:
        print(f"audit of {file}: nothing was checked, no database of vulnerabilities can be asked from here")
        return []
    known = f"{len(best.problems)} known vulnerabilities"
    print(f"audit of {file}: {best.checked} of {best.packages} packages were checked, {known}")
    return best.problems


def main(files: list[str]) -> None:
    problems = [f"{file}: {problem}" for file in files for problem in audit(file)]
    if problems:
        sys.exit("\n".join([*problems, "`make lock-upgrade` locks newer versions"]))


if __name__ == "__main__":
    main(sys.argv[1:])
