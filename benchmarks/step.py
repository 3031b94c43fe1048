"""What a whole training step costs with 1, 2, 4 and 8 factors whose information is unlearned.

Run: OMP_NUM_THREADS=1 python benchmarks/step.py (a minute). A step is that of the classroom run:
small_cnn, 64 px, batches of 64 joined by 192 past samples, every turn with backward pass and Adam.
CPU seconds of one thread, median of the repeats; all sides take turns, so that what else the
machine does falls on all alike. Multitask is the same step without information. Prints a table and
writes step.json beside this file.
"""

import json
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import torch

from xbl_kit.batch import Batch
from xbl_kit.methods import MimmX
from xbl_kit.models import build_multihead

SIDES = {
    "multitask": {"weight": 0.0},
    "dcor": {"estimator": "dcor"},
    "mine": {"estimator": "mine"},
    "mine, not conditional": {"estimator": "mine", "conditional": False},
}
FACTORS, CLASSES, BATCH, SIZE, REPEATS = (1, 2, 4, 8), 4, 64, 64, 11


def stepper(n: int, **options) -> Callable[[], None]:
    """A training step with n factors of two levels, on one batch of noise."""
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(BATCH) % CLASSES
    levels = torch.randint(2, (n, BATCH), generator=generator)
    image = torch.rand(BATCH, 1, SIZE, SIZE, generator=generator)
    factors = {f"factor {i}": levels[i] for i in range(n)}
    batch = Batch(image, label, factors, {}, torch.arange(BATCH), torch.arange(BATCH))
    model = build_multihead("small_cnn", CLASSES, dict.fromkeys(factors, 2), size=4)
    method = MimmX(model, **options)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)

    def step() -> None:
        for turn in method.turns:
            optimizer.zero_grad()
            sum(method(batch, turn).values()).backward()
            optimizer.step()

    for _ in range(4):  # fills the memory
        step()
    return step


def main() -> None:
    torch.set_num_threads(1)
    steps = {(name, n): stepper(n, **SIDES[name]) for name, n in product(SIDES, FACTORS)}
    seconds = {side: [] for side in steps}
    for _, (side, step) in product(range(REPEATS), steps.items()):
        start = time.process_time()
        step()
        seconds[side].append(time.process_time() - start)
    median = {side: statistics.median(times) for side, times in seconds.items()}
    print(f"{'ms a step':<24}" + "".join(f"{n:>8}" for n in FACTORS) + "   times 1 factor")
    for name in SIDES:
        row = [median[name, n] for n in FACTORS]
        print(f"{name:<24}" + "".join(f"{1e3 * s:>8.1f}" for s in row), end="   ")
        print(", ".join(f"{s / row[0]:.2f}" for s in row))
    rows = [
        {"side": name, "factors": n, "seconds": round(s, 5), "times": s / median[name, 1]}
        for (name, n), s in median.items()
    ]
    content = {"torch": torch.__version__, "repeats": REPEATS, "rows": rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
