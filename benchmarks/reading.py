"""What checking and reading many images cost in time and memory, beyond decoding them.

Run: OMP_NUM_THREADS=1 python benchmarks/reading.py (n = 2,000 and 20,000, ten minutes, 2 GB of
the temporary folder, emptied afterwards; `--n` renews the figures of one). Each figure comes from
a fresh process.

Memory is the growth of the peak of *anonymous* resident memory beyond that after the imports: what
the process has allocated. Pages of the mapped cache count in the total resident set as well, but
they are a copy of a file that the system drops when memory is wanted, so they bound nothing. Files
are read once before any time is taken, so that all of them come from the system's file cache.
Ratios are of CPU seconds, all threads together, which a busy machine changes little.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xbl_kit.data import list_images, open_dataset
from xbl_kit.data.cache import WORKERS
from xbl_kit.data.check import check, lookalikes
from xbl_kit.data.phantom import CLASSES, FACTORS, make_phantoms

SIDE, SIZE, BATCH, DRAWN = 299, 224, 64, 200


def write_images(root: Path, n: int) -> None:
    """A table data set of n phantoms: few are drawn, each image adds a rough field of its own."""
    rng = np.random.default_rng(0)
    columns = {name: np.arange(DRAWN) // 4 % len(levels) for name, levels in FACTORS.items()}
    drawn = make_phantoms(np.arange(DRAWN) % len(CLASSES), **columns, size=SIDE).image
    for name in CLASSES:
        (root / "images" / name).mkdir(parents=True)
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", "label", "patient", "age", "sex"])
        for i in range(n):
            label = CLASSES[i % DRAWN % len(CLASSES)]
            rough = Image.fromarray(rng.normal(0, 20, (20, 20)).astype(np.float32))
            field = np.asarray(rough.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
            pixels = np.clip(drawn[i % DRAWN] + field, 0, 255).astype(np.uint8)
            path = f"images/{label}/{i:06}.png"
            Image.fromarray(pixels).save(root / path, compress_level=1)
            writer.writerow([path, label, f"p{i}", 20 + i % 60, "FM"[i % 2]])


class Peak:
    """The peaks of this process's anonymous and of its whole resident memory, in MB, sampled."""

    def __init__(self, every: float = 0.005):
        self.anonymous = self.total = 0.0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(every,), daemon=True)

    def _watch(self, every: float) -> None:
        while not self.stop.wait(every):
            anonymous, total = resident()
            self.anonymous = max(self.anonymous, anonymous)
            self.total = max(self.total, total)

    def __enter__(self) -> "Peak":
        self.anonymous, self.total = self.before = resident()
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()

    def growth(self) -> dict[str, float]:
        anonymous, total = self.before
        grown = {"anonymous_mb": self.anonymous - anonymous, "resident_mb": self.total - total}
        return {name: round(value, 1) for name, value in grown.items()}


def resident() -> tuple[float, float]:
    """Anonymous and whole resident memory now, MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "VmRSS")))
    return tuple(int(status[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))


def decode(root: Path) -> None:
    """Pillow alone: every file opened, loaded and made grey, by as many threads as the kit has."""
    paths = list_images("table", root).rows["image"].tolist()

    def one(path: str) -> None:
        with Image.open(path) as picture:
            picture.convert("L")

    with ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(one, paths):
            pass


def compare(root: Path) -> None:
    """Every picture with every other, as the check does, by looks made up at random."""
    manifest = list_images("table", root)
    looks = np.random.default_rng(0).random((len(manifest), 255)) < 0.5
    lookalikes(manifest, dict(enumerate(looks)))


def pass_over(root: Path) -> dict:
    """Every image once, in batches, from the cache; the time is that of the best of three passes.

    It is short, and so easily disturbed by what else the machine does.
    """
    data = open_dataset("table", root, size=SIZE)
    passes = [timed_pass(len(data), lambda rows: data[rows].image) for _ in range(3)]
    return min(passes, key=lambda found: found["cpu"])


def timed_pass(n: int, read: Callable[[torch.Tensor], torch.Tensor]) -> dict:
    """Seconds and CPU seconds of reading n images in random order, in batches."""
    start, cpu = time.perf_counter(), time.process_time()
    for rows in torch.randperm(n, generator=torch.Generator().manual_seed(0)).split(BATCH):
        assert read(rows).shape[1:] == (1, SIZE, SIZE)
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def image_folder(root: Path) -> dict:
    """Every image once, in batches, decoded and resized by torchvision each time."""
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Grayscale(), transforms.Resize((SIZE, SIZE)), transforms.ToTensor()]
    data = ImageFolder(root / "images", transforms.Compose(steps))
    return timed_pass(len(data), lambda rows: torch.stack([data[row][0] for row in rows.tolist()]))


def open_(root: Path) -> None:
    open_dataset("table", root, size=SIZE)


def check_(root: Path) -> dict:
    return {"faults": len(check(list_images("table", root)))}


WAYS = {
    "decode": decode,
    "check": check_,
    "compare": compare,
    "first opening": open_,
    "second opening": open_,
    "pass": pass_over,
    "ImageFolder": image_folder,
}


def measure(way: str, root: str) -> dict:
    """Seconds, CPU seconds and memory of one way, and what it gives itself."""
    torch.set_num_threads(1)
    if way == "ImageFolder":
        import torchvision  # noqa: F401
    with Peak() as peak:
        start, cpu = time.perf_counter(), time.process_time()
        found = WAYS[way](Path(root)) or {}
        seconds = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return {**seconds, **peak.growth(), **found}


def in_fresh_process(way: str, folder: Path) -> dict:
    command = [sys.executable, __file__, "--measure", way, "--root", str(folder / "data")]
    environment = os.environ | {"XBL_KIT_CACHE": str(folder / "cache")}
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(found.stdout)


def measure_all(n: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "data").mkdir()
        write_images(Path(folder) / "data", n)
        in_fresh_process("decode", Path(folder))  # fills the system's file cache
        rows = {way: in_fresh_process(way, Path(folder)) for way in WAYS}
    beyond = 1000 * (rows["check"]["cpu"] - rows["decode"]["cpu"]) / n
    summary = {
        "check_ms_beyond_decoding": round(beyond, 3),
        "pass_times_faster": round(rows["ImageFolder"]["cpu"] / rows["pass"]["cpu"], 1),
        "opening_and_pass_mb": max(
            rows[way]["anonymous_mb"] for way in ("first opening", "second opening", "pass")
        ),
    }
    for way, row in rows.items():
        print(f"{n:>8}{way:>16}" + "".join(f"{value:>12.2f}" for value in row.values()))
    print(json.dumps(summary))
    return {"ways": rows, **summary}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.root)))
        return
    print(f"{'n':>8}{'way':>16}{'s':>12}{'CPU s':>12}{'anon. MB':>12}{'resident MB':>12}")
    known = json.loads(arguments.out.read_text())["n"] if arguments.out.is_file() else {}
    found = known | {str(n): measure_all(n) for n in arguments.n}
    options = {"side": SIDE, "size": SIZE, "batch": BATCH, "threads": WORKERS}
    arguments.out.write_text(json.dumps({"options": options, "n": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
