"""What the factorised critic saves against one concatenating network per pair, same weights.

Run: OMP_NUM_THREADS=1 python benchmarks/critic.py (three minutes). Times are CPU seconds of one
thread for forward + backward, memory is the growth of the peak resident set in a fresh process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from xbl_kit.losses import Mine, donsker_varadhan


class Concatenating(nn.Module):
    """T([x, z]) of pair `p` of a `Mine`, row by row of concatenated inputs.

    Layers that see one input only are applied to it alone: a block-diagonal matrix over both would
    multiply by zeros and be slower still.
    """

    def __init__(self, mine: Mine, p: int):
        super().__init__()
        n = len(mine.pairs)
        self.norm = mine.norm
        self.x = nn.ModuleList(_linear(side, p) for side in mine.sides[:-1])
        self.z = nn.ModuleList(_linear(side, n + p) for side in mine.sides[:-1])
        join, weight = mine.sides[-1], mine.sides[-1].weight.data
        self.join = nn.Linear(2 * weight.shape[1], weight.shape[2])
        self.join.weight.data = torch.cat([weight[p], weight[n + p]]).T.contiguous()
        self.join.bias.data = (join.bias.data[p] + join.bias.data[n + p]).squeeze(0)
        self.both = nn.ModuleList(_linear(layer, p) for layer in [*mine.both, mine.score])

    def forward(self, pairs: Tensor) -> Tensor:
        x, z = pairs.chunk(2, dim=1)
        for of_x, of_z in zip(self.x, self.z, strict=True):
            x, z = of_x(x).relu_(), of_z(z).relu_()
        hidden = self.join(torch.cat([x, z], dim=1) if len(self.x) else pairs)
        for layer in self.both:
            hidden = layer(hidden.relu_())
        return hidden.squeeze(1)


def _linear(layer: nn.Module, p: int) -> nn.Linear:
    linear = nn.Linear(*layer.weight.shape[1:])
    linear.weight.data = layer.weight.data[p].T.contiguous()
    linear.bias.data = layer.bias.data[p, 0].clone()
    return linear


def concatenated(parts: Tensor, networks: list[nn.Module], pairs: list, *, backward: bool = False):
    """The bounds, pair by pair; a pair's graph is freed before the next is built."""
    bounds = []
    for network, (i, j) in zip(networks, pairs, strict=True):
        x, z = parts[i], parts[j]
        rows = torch.cat([x.repeat_interleave(len(x), dim=0), z.repeat(len(x), 1)], dim=1)
        bound = donsker_varadhan(network(rows).view(len(x), len(x)))
        if backward:
            bound.backward()
        bounds.append(bound.detach())
    return torch.stack(bounds)


def factorised(parts: Tensor, mine: Mine, *, backward: bool = False) -> Tensor:
    bounds = mine(parts)
    if backward:
        bounds.sum().backward()
    return bounds.detach()


def measure(
    way: str, *, factors: int, batch: int, size: int, hidden: int, joint: int, repeats: int
):
    """{"seconds", "megabytes", "bounds"} of one way; best of `repeats`."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    pairs = [(0, i) for i in range(1, factors + 1)]
    options = {"hidden": hidden, "joint": joint, "standardise": False}
    mine = Mine(size, pairs, generator=generator, **options)
    parts = torch.randn(factors + 1, batch, size, generator=generator)
    parts[1:] += parts[0]
    if way == "concatenating":
        networks = [Concatenating(mine, p) for p in range(factors)]
    parts.requires_grad_()
    if way == "concatenating":  # what the first call imports is no cost of the critic
        concatenated(parts[:, :4], networks, pairs, backward=True)
    else:
        factorised(parts[:, :4], mine, backward=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        if way == "concatenating":
            bounds = concatenated(parts, networks, pairs, backward=True)
        else:
            bounds = factorised(parts, mine, backward=True)
        seconds.append(time.process_time() - start)
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": min(seconds), "megabytes": megabytes, "bounds": bounds.tolist()}


def in_fresh_process(way: str, **options) -> dict:
    text = json.dumps({"way": way, **options})
    command = [sys.executable, __file__, "--measure", text]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(**json.loads(arguments.measure))))
        return
    common = {"batch": 256, "size": 64, "hidden": 400}
    table = {}
    print(f"{'hidden layers that see both':<30}{'way':<16}{'s':>8}{'MB':>8}{'times':>8}")
    for joint in (1, 3):
        options = {"factors": 4, "joint": joint, **common}
        ours = in_fresh_process("factorised", **options, repeats=5)
        theirs = in_fresh_process("concatenating", **options, repeats=2)
        difference = max(abs(a - b) for a, b in zip(ours["bounds"], theirs["bounds"], strict=True))
        times = theirs["seconds"] / ours["seconds"]
        for way, row in (("concatenating", theirs), ("factorised", ours)):
            seconds, megabytes = row["seconds"], row["megabytes"]
            factor = theirs["seconds"] / seconds
            print(f"{joint:<30}{way:<16}{seconds:>8.2f}{megabytes:>8.0f}{factor:>8.1f}")
            table[f"joint-{joint}/{way}"] = {"seconds": seconds, "megabytes": megabytes}
        table[f"joint-{joint}"] = {"times_faster": times, "difference": difference}
        print(f"{'':<30}largest difference of a bound: {difference:.1e} nats")
    mimm, ours = table["joint-3/concatenating"], table["joint-1/factorised"]
    table["default_against_mimm"] = mimm["seconds"] / ours["seconds"]
    print(f"the default against MIMM's layout: {table['default_against_mimm']:.1f} times faster")
    seconds = {}
    for n in (1, 2, 4, 8):
        row = in_fresh_process("factorised", factors=n, joint=1, **common, repeats=5)
        seconds[n] = row["seconds"]
        print(
            f"N = {n}: {seconds[n]:.3f} s a step, {seconds[n] / seconds[1]:.2f} times that of N = 1"
        )
    table["seconds_by_factors"] = seconds
    arguments.out.write_text(json.dumps({"options": common, "rows": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
