"""Nothing lost: jobs killed at random times end as those that were left alone, and files that were
tampered with are read, or refused in one line.

    python benchmarks/kills.py --kills 30 --inputs 20000

A job is forked, killed with SIGKILL after a random time, and started again with --resume until it
has been killed often enough; then it runs to its end. What it leaves has to be, byte for byte, what
one that nobody killed leaves. Inputs are files of the kit with bytes changed, cut, doubled or put
in; each is read under a limit of 5 s, and must give its content or the error that is documented.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from xbl_kit.data import open_dataset
from xbl_kit.data.picture import read_picture
from xbl_kit.digests import file_digest
from xbl_kit.exemplar import Exemplar
from xbl_kit.models import build_classifier, cache_stem
from xbl_kit.run import compare, reproduce
from xbl_kit.run.stage import finished, load_sealed
from xbl_kit.storage import OwnFiles, load_model, load_state, save_model

TINY = {"size": 32, "per_class": {"train": 24, "val": 8, "test": 8}}
TINY |= {"train": {"epochs": 6, "lr": 3e-3}, "refine": {"epochs": 3, "lr": 3e-3}}
TINY |= {"oracle": {"epochs": 4, "lr": 3e-3}, "content": {"probe": {"permutations": 2}}}
MIMM = {"models": ["erm", "mimm-x", "balanced-dcor"]}
HANG = 5  # seconds
MOST = 2**30  # bytes


def exbl(folder: Path) -> None:
    reproduce("exbl", plan=TINY, device="cpu", out=folder / "out", resume=True)


def mimm_x(folder: Path) -> None:
    reproduce("mimm-x", plan=TINY, device="cpu", out=folder / "out", resume=True, **MIMM)


def comparison(folder: Path) -> None:
    how = {"seeds": [0, 1], "plan": TINY, "device": "cpu", "out": folder / "out", "resume": True}
    compare(["exbl", "rrr"], **how)


def pictures(folder: Path) -> None:
    open_dataset("table", folder.parent / "table", size=96)


def stem(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (384, 64, 64), dtype=np.uint8)
    weights = folder.parent / "mobilenet.safetensors"
    cache_stem(build_classifier("mobilenet_v2", weights=weights), images, folder, batch_size=8)


JOBS = {job.__name__: job for job in (exbl, mimm_x, comparison, pictures, stem)}


def inputs_for(jobs: Path) -> None:
    """A table of pictures, and weights, which the jobs read."""
    rng, rows = np.random.default_rng(0), ["image,label"]
    (jobs / "table").mkdir(parents=True)
    for number in range(400):
        Image.fromarray(rng.integers(0, 256, (200, 200), dtype=np.uint8)).save(
            jobs / f"table/{number}.png"
        )
        rows.append(f"{number}.png,{'ab'[number % 2]}")
    (jobs / "table/metadata.csv").write_text("\n".join(rows) + "\n")
    save_model(build_classifier("mobilenet_v2"), jobs / "mobilenet.safetensors")


def started(job: Callable, folder: Path) -> int:
    """The process id of a job that was started in a folder."""
    if child := os.fork():
        return child
    try:
        os.environ["XBL_KIT_CACHE"] = str(folder / "cache")
        os.dup2(os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        job(folder)
        os._exit(0)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}")
        os._exit(1)


def left(folder: Path) -> dict[str, str]:
    """A digest of every file, but for times and where the folder is."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found[name] = json.dumps(_timeless(json.loads(path.read_text())))
        elif path.suffix not in (".lock", ".txt"):
            found[name] = file_digest(path)
    return found


def _timeless(content: object) -> object:
    if isinstance(content, dict):
        out = ("seconds", "seconds_per_epoch", "seal", "results.json", "files")
        return {key: _timeless(value) for key, value in content.items() if key not in out}
    return content


def killed(job: Callable, folder: Path, seconds: float, kills: int) -> None:
    """Run a job to its end after it was killed so many times, at random."""
    for _ in range(kills):
        child = started(job, folder)
        time.sleep(random.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert os.waitpid(started(job, folder), 0)[1] == 0, f"{job.__name__}: failed, see above"


def kill_all(jobs: Path, names: list[str], kills: int, chains: int) -> dict[str, dict]:
    """How many chains of each job ended as the job that was left alone."""
    inputs_for(jobs)
    found = {}
    for name, job in ((name, JOBS[name]) for name in names):
        (jobs / "alone").mkdir()
        start = time.perf_counter()
        killed(job, jobs / "alone", 0, 0)
        seconds, wanted, same = time.perf_counter() - start, left(jobs / "alone"), 0
        (jobs / "alone").rename(jobs / f"{name}-alone")
        for _ in range(chains):
            (jobs / "alone").mkdir()  # one name: it stands in the records
            killed(job, jobs / "alone", 0.7 * seconds, kills // chains)
            now = left(jobs / "alone")
            same += now == wanted
            different = [key for key in {**now, **wanted} if now.get(key) != wanted.get(key)]
            print(*different[:5], sep="\n", end="\n" * bool(different))
            shutil.rmtree(jobs / "alone")
        found[name] = {"seconds": round(seconds, 1), "kills": kills, "chains": chains, "same": same}
        print(f"{name}: {found[name]}", flush=True)
    return found


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut off, left out, doubled, or made extreme."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, n = rng.randrange(len(found) + 1), rng.choice((1, 2, 4, 8, 64))
        some = [
            rng.randbytes(n), b"\0" * n, b"\xff" * n, found[at : at + n] * 2, b"", b"9" * n, b"[{"
        ]  # fmt: skip
        found[at : at + n] = rng.choice(some)
    return bytes(found[: rng.randrange(len(found) + 1)] if rng.random() < 0.1 else found)


def readers(folder: Path) -> dict[str, list[tuple[Path, Callable[[Path], object]]]]:
    """For each kind of file, some that are whole, and how they are read."""
    os.environ["XBL_KIT_CACHE"] = str(folder / "cache")
    out = folder / "out"
    reproduce("exbl", plan=TINY, device="cpu", out=out, models=["unrefined", "exbl"])
    model = build_classifier("small_cnn", 4)
    own, state = folder / "own.safetensors", folder / "state.pt"
    save_model(model, own)
    torch.save({"state_dict": model.body.state_dict()}, folder / "theirs.pth")
    torch.save({"history": [], "best": None, "method": model.state_dict(), "run": ""}, state)
    weighted = lambda path: build_classifier("small_cnn", weights=path)  # noqa: E731
    return {
        "exemplar": [(out / "exemplar.npz", Exemplar.load)],
        "records": [
            (out / "run.json", lambda path: finished(OwnFiles(path.parent, path.name))),
            (out / "stage-exbl.json", load_sealed),
            (state, load_state),
        ],
        "dicom": [(path, read_picture) for path in dicoms(folder)],
        "weights": [
            (own, lambda path: load_model(model, path)),
            (own, weighted),
            (folder / "theirs.pth", weighted),
        ],
    }


def dicoms(folder: Path) -> list[Path]:
    """A plain DICOM file and one with a window."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, generate_uid()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    paths = []
    for number in range(2):
        data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        data.Rows = data.Columns = 16
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 0, 1
        data.PhotometricInterpretation = "MONOCHROME1" if number else "MONOCHROME2"
        if number:
            data.WindowCenter, data.WindowWidth = 2000, 4000
        data.PixelData = np.arange(256, dtype=np.uint16).tobytes()
        paths.append(folder / f"{number}.dcm")
        data.save_as(paths[-1], enforce_file_format=True)
    return paths


def read_all(kind: str, cases: list, count: int, seed: int, folder: Path) -> Counter:
    """What became of so many mutated inputs: read, refused, or a finding."""
    rng, found = random.Random(f"{kind}{seed}"), Counter()
    signal.signal(signal.SIGALRM, _hang)
    for number in range(count):
        whole, read = cases[number % len(cases)]
        path = folder / f"{kind}{whole.suffix}"
        path.write_bytes(mutated(whole.read_bytes(), rng))
        signal.alarm(HANG)
        try:
            read(path)
            found["read"] += 1
        except (ValueError, OSError) as error:
            found["refused" if "\n" not in str(error) else "more than a line"] += 1
        except BaseException as error:
            shutil.copy(path, folder / f"finding-{kind}-{seed}-{number}{whole.suffix}")
            found[f"{type(error).__name__}: {error}"[:100]] += 1
        finally:
            signal.alarm(0)
    return found


def _hang(*_: object) -> None:
    raise KeyboardInterrupt(f"more than {HANG} s")


def fuzz(folder: Path, count: int) -> dict[str, dict]:
    """What became of so many inputs of each kind, read in processes of 1,000."""
    found = {}
    for kind, cases in readers(folder).items():
        total: Counter = Counter()
        for seed in range(-(-count // 1000)):
            told = folder / "told.json"
            if not (child := os.fork()):
                some = read_all(kind, cases, min(1000, count), seed, folder)
                rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                told.write_text(json.dumps(dict(some) | ({"over 1 GB": 1} if rss > MOST else {})))
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            total.update(json.loads(told.read_text()) if status == 0 else {f"died: {status}": 1})
        found[kind] = dict(total)
        print(f"{kind}: {found[kind]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="of each job")
    parser.add_argument("--chains", type=int, default=5, help="each with its share of the kills")
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=JOBS)
    parser.add_argument("--inputs", type=int, default=20_000, help="of each kind of file")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        how = options.jobs, options.kills, options.chains
        found = {"killed": kill_all(Path(folder) / "jobs", *how)}
        (Path(folder) / "files").mkdir()
        found["mutated"] = fuzz(Path(folder) / "files", options.inputs)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
