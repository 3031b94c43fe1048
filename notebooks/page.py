"""Run the command that turns a lesson into a page; say in one line what that took, and made.

python notebooks/page.py LESSON PAGE COMMAND...

What the command itself has to say is shown only where it fails.
"""

import re
import subprocess
import sys
import time
from pathlib import Path


def made_since(start: float, lesson: Path, page: Path) -> list[Path]:
    """The page and, of what the lesson's code names in `build/`, all that is newer than `start`."""
    names = re.findall(r"\.\./build/([\w.-]+)", lesson.read_text(encoding="utf-8"))
    found = []
    build = lesson.parents[1] / "build"
    for path in [page, *(build / name for name in sorted(set(names)))]:
        files = [path, *(path.rglob("*") if path.is_dir() else ())]
        if any(file.exists() and file.stat().st_mtime >= start for file in files):
            found.append(path)
    return found


def main(lesson: str, page: str, *command: str) -> int:
    start, clock = time.time(), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = f"{Path(lesson).stem:24}{time.monotonic() - clock:5.0f} s"
    clear = "\r\033[K" if sys.stdout.isatty() else ""  # of a progress bar beside it
    if done.returncode:
        print(done.stdout.decode(errors="replace"), file=sys.stderr)
        print(f"{clear}{took}   failed, as shown above", file=sys.stderr, flush=True)
    else:
        made = ", ".join(map(str, made_since(start, Path(lesson), Path(page))))
        print(f"{clear}{took}   {made}", flush=True)
    return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
