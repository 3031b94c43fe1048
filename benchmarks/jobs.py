"""What whole jobs cost: seconds by the clock, seconds of the processors, memory at its most.

Run: python benchmarks/jobs.py [--commit REF] [exbl mimm-x test run]   (half an hour on two cores)
Each job has a fresh clone of the commit (default: the last one), a cache of its own with nothing
in it, and this environment's packages. Memory is the sum over all its processes, pages that they
share counted once (PSS), looked at twice a second. Adds its rows to jobs.json beside this file,
in place of those of the same job and commit. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
JOBS = {  # each in a clone, so that what is made there is nobody's
    "exbl": "xbl-kit reproduce exbl --preset classroom --out out",
    "mimm-x": "xbl-kit reproduce mimm-x --out out",
    "test": "make test",
    "run": "make run",
}


def clone(commit: str, folder: Path) -> None:
    """The commit, with this environment as its .venv, which `make` takes for installed."""
    for command in (["clone", "-q", ROOT, folder], ["-C", folder, "checkout", "-q", commit]):
        subprocess.run(["git", *command], check=True)
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / name, (0, 0))


def measure(command: str, folder: Path) -> dict[str, float]:
    """Run one job in a folder to its end."""
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    own = {"PATH": search, "PYTHONPATH": str(folder), "XBL_KIT_CACHE": str(folder / "cache")}
    start, before, most = time.monotonic(), os.times(), 0
    with (folder / "log.txt").open("wb") as log:
        job = subprocess.Popen(
            command.split(), cwd=folder, env=os.environ | own, stdout=log, stderr=log
        )
        while job.poll() is None:
            most = max(most, memory(psutil.Process(job.pid)))
            time.sleep(0.5)
    seconds, after = time.monotonic() - start, os.times()
    if job.returncode:
        print((folder / "log.txt").read_text(errors="replace")[-2000:], file=sys.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return {
        "seconds": round(seconds),
        "cpu": round(cpu),
        "memory_mb": round(most / 2**20),
        "status": job.returncode,
    }


def memory(job: psutil.Process) -> int:
    """Bytes that a process and all below it hold now."""
    held = 0
    with suppress(psutil.NoSuchProcess):
        for each in (job, *job.children(recursive=True)):
            with suppress(psutil.Error):  # it may end meanwhile
                held += each.memory_full_info().pss
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("job", nargs="*", help=f"of {', '.join(JOBS)}; default: all")
    parser.add_argument("--commit", default="HEAD", metavar="REF")
    given = parser.parse_args()
    if unknown := set(given.job) - set(JOBS):
        parser.error(f"{', '.join(sorted(unknown))}: expected {', '.join(JOBS)}")
    short = ["git", "-C", ROOT, "rev-parse", "--short", given.commit]
    commit = subprocess.check_output(short, text=True).strip()
    out = Path(__file__).with_suffix(".json")
    for name in given.job or JOBS:
        with tempfile.TemporaryDirectory() as folder:
            clone(commit, Path(folder, "clone"))
            row = {"job": JOBS[name], "commit": commit} | measure(JOBS[name], Path(folder, "clone"))
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        rows = json.loads(out.read_text()) if out.exists() else []
        kept = [old for old in rows if (old["job"], old["commit"]) != (JOBS[name], commit)]
        out.write_text(json.dumps([*kept, row], indent=1) + "\n")


if __name__ == "__main__":
    main()
