"""What the kit's parts cost beside plain training, and beside other libraries.

Run: make bench, or OMP_NUM_THREADS=1 python benchmarks/speed.py
[maps steps prefix drawing growth factors processes gpu] (fifteen minutes). The sides of a question
take turns, so that what else the machine does falls on all alike, and answers that ought to be
equal are compared. Seconds are CPU seconds of one thread, medians of the repeats; look at the
ratios, not at the seconds. Memory is the growth of the peak resident set in a process of its own.
Whole jobs are timed by jobs.py. Writes speed.json beside this file.
"""

import copy
import ctypes
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torchvision
from step import SIDES, stepper
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.data import Dataset
from xbl_kit.data.phantom import make_phantoms
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import grad_cam, upsample
from xbl_kit.methods import Erm, ExBL, Known, Method
from xbl_kit.methods.explained import rrr, rrr_g
from xbl_kit.models import build_classifier, cache_stem
from xbl_kit.run import open_run, reproduce
from xbl_kit.storage import is_first_process
from xbl_kit.train import fit, predict

BATCH, SIDE, CLASSES, REPEATS = 8, 224, 4, 9
NETWORKS = ("mobilenet_v2", "resnet18", "densenet121")
SIZES = (1000, 4000, 16_000)  # images an epoch has, to see how its time grows
FACTORS = (1, 2, 4, 8)
Rows = list[dict]


def in_turn(sides: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Median CPU seconds of each side, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _, (name, work) in product(range(repeats + 1), sides.items()):
        start = time.process_time()
        work()
        seconds[name].append(time.process_time() - start)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def peak(work: Callable[[], object]) -> float:
    """Megabytes by which the peak resident set of a forked process grows while it works.

    What this process has freed is given back first: who is forked would work in there, unseen.
    """
    ctypes.CDLL(None).malloc_trim(0)  # of glibc
    reading, writing = os.pipe()
    if os.fork() == 0:
        torch.set_num_threads(1)  # others that this process had are not there after a fork
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        os.write(writing, str(grown / 1024).encode())
        os._exit(0)
    os.wait()
    return float(os.read(reading, 99))


def against(first: str, seconds: Mapping[str, float], **names: object) -> Rows:
    """A row a side, with its ratio to the first."""
    return [
        names | {"side": side, "seconds": round(s, 4), "ratio": round(s / seconds[first], 3)}
        for side, s in seconds.items()
    ]


def maps() -> Rows:
    """Grad-CAM of a batch beside the forward pass alone, and beside three libraries."""
    return [row for name in NETWORKS for row in maps_of(name)]


def maps_of(name: str, size: int = SIDE, repeats: int = REPEATS) -> Rows:
    model = build_classifier(name, CLASSES).eval()
    image, label = torch.rand(BATCH, 1, size, size), torch.arange(BATCH) % CLASSES

    def forward() -> None:
        with torch.no_grad():
            model(image)

    def ours() -> Tensor:
        with torch.no_grad():
            features = model.encode(image)
        features.requires_grad_()
        return grad_cam(features, model.head(features), label)

    sides = {"forward pass": forward, "xbl-kit": ours} | others(model, image, label)
    shown = ours()
    for side, work in list(sides.items())[2:]:
        other = torch.as_tensor(work()).float()
        equal = correlation(shown, other.reshape(BATCH, *other.shape[-2:]))
        if equal < 0.999:
            sys.exit(f"{name}: the maps of {side} are not ours (r = {equal:.4f})")
    rows = against("forward pass", in_turn(sides, repeats), question="maps", network=name)
    least = peak(forward)
    rows[1]["memory"] = round(peak(ours) / least, 2)
    return rows


def correlation(one: Tensor, other: Tensor) -> float:
    """The lowest between two maps of an image; some libraries enlarge and scale theirs."""
    one = upsample(one, tuple(other.shape[1:]))
    kept = one.flatten(1).std(dim=1) > 0
    pairs = zip(one.flatten(1)[kept], other.flatten(1)[kept], strict=True)
    return min(torch.corrcoef(torch.stack(pair))[0, 1].item() for pair in pairs)


def others(model: nn.Module, image: Tensor, label: Tensor) -> dict[str, Callable[[], object]]:
    """The same maps from the libraries that are installed."""

    class Logits(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, image: Tensor) -> Tensor:
            return self.model(image)[1]

    logits, sides = Logits(), {}
    if captum := installed("captum.attr"):
        layer = captum.LayerGradCam(logits, model.body)
        sides["captum"] = lambda: layer.attribute(
            image, target=label, relu_attributions=True
        ).detach()
    if library := installed("pytorch_grad_cam"):
        wanted = installed("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
        cam = library.GradCAM(logits, [model.body])
        targets = [wanted(each) for each in label.tolist()]
        sides["grad-cam"] = lambda: cam(input_tensor=image, targets=targets)
    return sides


def installed(name: str):
    try:
        return import_module(name)
    except ImportError:
        return None


def steps() -> Rows:
    """A training step of eXBL, RRR-G and RRR beside one of cross-entropy."""
    cases = ("mobilenet_v2", SIDE, 8), ("small_cnn", 64, 64)
    return [row for case in cases for row in steps_of(*case)]


def steps_of(name: str, size: int, batch: int, repeats: int = REPEATS) -> Rows:
    label, masks = torch.arange(batch) % CLASSES, torch.rand(batch, size, size) > 0.5
    image, rows = torch.rand(batch, 1, size, size), torch.arange(batch)
    pixels = (255 * image[:, 0]).byte().numpy()
    data = Dataset(pixels, label, tuple("abcd"), rows, masks={"lungs": masks.numpy()})
    seen, known = Batch(image, label, {}, {"lungs": masks}, rows, rows), Known(data, rows)
    makers = {
        "cross-entropy": lambda model, known: Erm(model),
        "eXBL": lambda model, known: ExBL(model, exemplar(model, image)),
        "RRR-G": rrr_g,
        "RRR": rrr,
    }
    sides = {
        side: step(make(build_classifier(name, CLASSES), known), seen)
        for side, make in makers.items()
    }
    seconds = in_turn(sides, repeats)
    return against("cross-entropy", seconds, question="steps", network=name)


def exemplar(model: nn.Module, image: Tensor) -> Exemplar:
    with torch.no_grad():
        shape = model.encode(image[:2]).shape[2:]
    good, bad = (Explained(image[i : i + 1], torch.rand(1, *shape), (i,), ("a",)) for i in (0, 1))
    return Exemplar(good, bad, "auto")


def step(method: Method, batch: Batch) -> Callable[[], None]:
    """One step of Adam, in training mode."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4)
    method.train()

    def work() -> None:
        optimizer.zero_grad()
        sum(method(batch).values()).backward()
        optimizer.step()

    return work


def noise(n: int, side: int) -> Dataset:
    """So many images from which nothing can be learned."""
    images = np.random.default_rng(0).integers(255, size=(n, side, side), dtype=np.uint8)
    rows = torch.arange(n)
    return Dataset(images, rows % CLASSES, tuple("abcd"), rows)


def prefix(n: int = 96) -> Rows:
    """An epoch with the frozen prefix cached beside one without, and what caching costs."""
    plain = noise(n, SIDE)
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        weights = pretrained(folder)  # a network with weights has a frozen prefix
        model = build_classifier("mobilenet_v2", CLASSES, weights=weights)
        stem = cache_stem(model, plain.images, folder)
        data = {"uncached": plain, "cached": dataclasses.replace(plain, stem=stem)}

        def epoch(side: str) -> Callable[[], None]:
            def work() -> None:
                own, rows = Erm(copy.deepcopy(model)), torch.arange(n)
                history = fit(own, data[side], rows, rows[:8], epochs=1, batch_size=16)
                losses[side] = history[0]["train"]["class"]

            return work

        def forward() -> None:
            with torch.no_grad():
                for rows in torch.arange(n).split(16):
                    model(plain[rows].image)

        def build() -> None:
            with tempfile.TemporaryDirectory() as another:
                cache_stem(model, plain.images, another)

        trained = step(Erm(copy.deepcopy(model)), data["cached"][torch.arange(16)])

        def rest() -> None:
            for _ in range(n // 16):
                trained()

        sides = {"uncached": epoch("uncached"), "cached": epoch("cached"), "forward": forward}
        sides |= {"building the cache": build, "the trained rest alone": rest}
        seconds = in_turn(sides, 3)
    if abs(losses["cached"] - losses["uncached"]) > 1e-5:
        sys.exit(f"the losses differ: {losses}")
    return against("cached", seconds, question="prefix")


def drawing(n: int = 400) -> Rows:
    """Phantoms a second."""
    label = np.arange(n) % CLASSES
    factors = {"age": label % 2, "sex": 0, "site": 0}
    seconds = in_turn({"128 px": lambda: make_phantoms(label, **factors, threads=1)}, 3)
    rate = round(n / seconds["128 px"])
    return [{"question": "drawing", "side": "128 px, one thread", "phantoms a second": rate}]


def growth() -> Rows:
    """Seconds and memory of an epoch with ever more images, and the exponent by which they grow."""
    rows = []
    for n in SIZES:
        data = noise(n, 64)

        def epoch(data: Dataset = data, n: int = n) -> None:
            method = Erm(build_classifier("small_cnn", CLASSES))
            fit(method, data, torch.arange(n), torch.arange(64), epochs=1, batch_size=64)

        seconds = in_turn({"epoch": epoch}, 1)["epoch"]
        rows.append({"question": "growth", "images": n, "seconds": round(seconds, 2)})
        rows[-1] |= {"images_mb": data.images.nbytes >> 20, "memory_mb": round(peak(epoch))}
    several = np.polyfit(np.log(SIZES), np.log([row["seconds"] for row in rows]), 1)
    return [*rows, {"question": "growth", "exponent of the time": round(float(several[0]), 3)}]


def factors() -> Rows:
    """A step with ever more factors to unlearn beside one with a single factor."""
    rows = []
    for name in ("multitask", "dcor", "mine"):
        sides = {str(n): stepper(n, **SIDES[name]) for n in FACTORS}
        rows += against("1", in_turn(sides), question="factors", method=name)
    return rows


def processes(n: int = 4000) -> Rows:
    """An epoch of one process, and of two that share every batch; by the clock, on two cores."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in ("1", "2"):
            out = Path(folder, count)
            code = f"import speed; speed.epochs({n}, {str(out)!r})"
            start = ["torch.distributed.run", "--nproc-per-node", count, "--no-python"]
            command = [sys.executable, "-m", *start, sys.executable, "-c", code]
            subprocess.run(command, check=True, cwd=Path(__file__).parent)
            seconds[count] = float(out.read_text())
    return against("1", seconds, question="processes", images=n)


def epochs(n: int, out: str) -> None:
    """Train for three epochs; the seconds of the fastest go to a file, since all processes wait
    for the one that is disturbed."""
    torch.set_num_threads(1)
    data, rows = noise(n, 64), torch.arange(n)
    method = Erm(build_classifier("small_cnn", CLASSES))
    history = fit(method, data, rows, rows[:64], epochs=3, batch_size=64, device="cpu")
    if is_first_process():
        Path(out).write_text(str(min(record["seconds"] for record in history)))


def gpu(device: str = "cuda", n: int = 100_000, **plan) -> Rows:
    """The paper's preset at the paper's size to early stopping, and maps of `n` images.

    Phantoms stand for its images. The network has ImageNet's weights where they were downloaded
    before, else random ones of the same parts; its prefix is frozen in either case.
    """
    if device == "cuda" and not torch.cuda.is_available():
        return [{"question": "gpu", "skipped": "torch finds no GPU here"}]
    sizes = {"train": 800, "val": 300, "test": 200}  # 3,200 + 1,200 + 800 images of four classes
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        how = {
            "preset": "paper",
            "plan": {"per_class": sizes} | plan,
            "weights": pretrained(folder),
        }
        for precision in ("no", "bf16"):
            out = Path(folder, precision)
            models = "unrefined", "exbl"
            found = reproduce(**how, precision=precision, models=models, device=device, out=out)
            for name, side in found["models"].items():
                row = {"question": "gpu", "precision": precision, "side": name}
                told = {key: side["train"][key] for key in ("images", "epochs", "seconds")}
                rows.append(row | told)
        run = open_run(out)
        model, some = run.models["exbl"].to(device), torch.arange(n) % len(run.data)
        predict(model, run.data, some[:256])  # what is loaded once does not count
        start = time.perf_counter()
        predict(model, run.data, some)
        seconds = round(time.perf_counter() - start, 1)
    return [*rows, {"question": "gpu", "side": "maps", "images": n, "seconds": seconds}]


def pretrained(folder: str) -> str:
    """ "imagenet" where its file lies ready, else a file of random weights in a folder."""
    source = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1.url
    if Path(torch.hub.get_dir(), "checkpoints", source.rpartition("/")[2]).exists():
        return "imagenet"
    file = Path(folder, "weights.pth")
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), file)
    return str(file)


QUESTIONS = {
    "maps": maps,
    "steps": steps,
    "prefix": prefix,
    "drawing": drawing,
    "growth": growth,
    "factors": factors,
    "processes": processes,
    "gpu": gpu,
}


def main() -> None:
    torch.set_num_threads(1)
    out = Path(__file__).with_suffix(".json")
    content = json.loads(out.read_text()) if out.exists() else {}
    for name in sys.argv[1:] or QUESTIONS:
        start = time.monotonic()
        content[name] = QUESTIONS[name]()
        for row in content[name]:
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        print(f"({name}: {time.monotonic() - start:.0f} s)", flush=True)
        content["torch"] = torch.__version__
        out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
