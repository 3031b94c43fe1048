"""Nothing is lost to a kill, a full disk or another run, and what has changed is noticed."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from PIL import Image
from test_table import _write

from xbl_kit import plots
from xbl_kit.data import open_dataset, picture, write_table
from xbl_kit.data.cache import cache_key
from xbl_kit.data.manifest import Manifest
from xbl_kit.data.phantom import cohort
from xbl_kit.data.picture import read_frames
from xbl_kit.digests import digest
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.methods import Known
from xbl_kit.methods.weighted import erm
from xbl_kit.models import build_classifier, cache_stem
from xbl_kit.run import compare, open_run, reproduce
from xbl_kit.run import stage as stages
from xbl_kit.storage import (
    OwnFiles,
    load_state,
    save_model,
    save_state,
    sweep,
    write_beside,
    write_json,
    write_whole,
)
from xbl_kit.train import fit

# What has changed between a run and its resuming

PLAN = {"size": 16, "train": {"epochs": 2, "lr": 3e-3}, "refine": {"epochs": 1, "lr": 3e-3}}


def _rows() -> list[dict]:
    return [
        {"image": f"images/{i}.png", "mask": f"masks/{i % 6}.png"}
        | {"label": "ab"[i % 6 // 3], "site": "xy"[i % 4 // 2]}
        for i in range(48)
    ]


# The pairs here are of noise, and no images of the runs that they are given to.
pytestmark = pytest.mark.filterwarnings("ignore:exemplar of other images")


def _picks(seed: int) -> Exemplar:
    generator = torch.Generator().manual_seed(seed)

    def side() -> Explained:
        image = torch.rand(1, 1, 16, 16, generator=generator)
        return Explained(image, torch.rand(1, 2, 2, generator=generator), (3,), ("a",))

    return Exemplar(side(), side(), picked_by="auto")


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[Path, dict]:
    """A finished run of two models on a table, from a file of weights and one of an exemplar."""
    home = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBL_KIT_CACHE", str(home / "cache"))
        _write(home / "data", _rows())
        save_model(build_classifier("small_cnn", seed=5), home / "start.safetensors")
        save_model(build_classifier("small_cnn", seed=6), home / "other.safetensors")
        _picks(0).save(home / "pick.npz")
        _picks(1).save(home / "other.npz")
        how = {"data": "table", "root": home / "data", "plan": PLAN, "device": "cpu"}
        how |= {"weights": home / "start.safetensors", "exemplars": home / "pick.npz"}
        how |= {"confounders": ["site"], "models": ["unrefined", "exbl"]}
        reproduce("exbl", **how, out=home / "run")
        reproduce("exbl", **how, seed=1, out=home / "seed-1")
    return home, how


@pytest.fixture
def again(ran, tmp_path, monkeypatch):
    """`again(stopped, **changed)` resumes a copy of the run; its files may be changed before."""
    home, how = ran
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    kept = {path: (path.read_bytes(), path.stat()) for path in home.rglob("*") if path.is_file()}
    yield home, how
    for path, (content, stat) in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    for path in {path for path in home.rglob("*") if path.is_file()} - kept.keys():
        path.unlink()


def _table(change, home: Path, patch) -> dict:
    rows = change(pd.read_csv(home / "data/metadata.csv"))
    rows.to_csv(home / "data/metadata.csv", index=False)
    return {}


def _copy(source: str, target: str, home: Path, patch) -> dict:
    (home / target).write_bytes((home / source).read_bytes())
    return {}


def _mask(home: Path, patch) -> dict:
    Image.fromarray(np.eye(16) > 0).save(home / "data/masks/1.png")
    return {}


def _version(home: Path, patch) -> dict:
    patch.setattr("xbl_kit.run.task.__version__", "0.0.1")
    return {}


def _edit(name: str, change, home: Path, patch) -> dict:
    content = json.loads((home / "run" / name).read_text())
    (home / "run" / name).write_text(json.dumps(change(content)))
    return {}


swapped = {"a": "b", "b": "a"}
WAYS = {
    "labels swapped": partial(_table, lambda rows: rows.assign(label=rows["label"].map(swapped))),
    "a row left out": partial(_table, lambda rows: rows.drop(index=7)),
    "a factor changed": partial(_table, lambda rows: rows.assign(site=[*rows["site"]][::-1])),
    "an image replaced": partial(_copy, "data/images/1.png", "data/images/2.png"),
    "a mask replaced": _mask,
    "the weights file": partial(_copy, "other.safetensors", "start.safetensors"),
    "the exemplar": partial(_copy, "other.npz", "pick.npz"),
    "the plan": lambda home, patch: {"plan": PLAN | {"train": {"epochs": 3, "lr": 3e-3}}},
    "the seed": lambda home, patch: {"seed": 1},
    "the version": _version,
    "weights of another run": partial(
        _copy, "seed-1/model-exbl.safetensors", "run/model-exbl.safetensors"
    ),
    "a stage of another run": partial(_copy, "seed-1/stage-exbl.json", "run/stage-exbl.json"),
    "results": partial(_edit, "results.json", lambda results: {"x": 1}),
    "a stage's results": partial(_edit, "stage-exbl.json", lambda stage: stage | {"results": {}}),
}  # fmt: skip


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_what_changed_since_is_noticed(again, way, finished, monkeypatch):
    """Refused in one line, or what depends on it done anew: results of then are never shown."""
    home, how = again
    before = (home / "run/results.json").read_text()
    if not finished:
        (home / "run/results.json").unlink()
        files = OwnFiles(home / "run", "run.json")
        del files.content["done"]
        files.save(anew=True)
        if way == "results":
            pytest.skip("there are none yet")
    how = how | WAYS[way](home, monkeypatch)
    trained = []
    monkeypatch.setattr(
        stages, "fit", lambda *given, **how: trained.append(1) or fit(*given, **how)
    )
    try:
        results = reproduce("exbl", **how, out=home / "run", resume=True)
    except ValueError as error:
        assert "\n" not in str(error) and str(home) in str(error)
        return
    assert trained or (results == json.loads(before) and way == "results")
    if way == "the exemplar":  # whose figures may come out the same
        assert (home / "run/exemplar.npz").read_bytes() == (home / "other.npz").read_bytes()
    else:
        anew = (home / "run/results.json").read_text() != before
        assert anew or way in ("results", "a stage of another run")


@pytest.mark.parametrize("way", ["labels swapped", "an image replaced", "the weights file"])
def test_a_finished_run_of_other_data_is_not_opened(again, way, monkeypatch):
    home, _ = again
    open_run(home / "run")
    WAYS[way](home, monkeypatch)
    twins = r"2\.png\): the same picture as line 3"  # which the image put there makes
    with pytest.raises(ValueError, match=rf"holds a run on (data|weights) that have chan|{twins}"):
        open_run(home / "run")


def test_a_finished_run_is_found_without_a_picture_read(again, monkeypatch):
    home, how = again
    for name in ("open_task", "build_network"):
        monkeypatch.setattr(f"xbl_kit.run.engine.{name}", None)
    results = reproduce("exbl", **how, out=home / "run", resume=True)
    assert results == json.loads((home / "run/results.json").read_text())


def test_a_run_killed_before_its_figures_draws_them(again, monkeypatch):
    home, how = again

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xbl_kit.run.engine.draw_run", killed)
        with pytest.raises(KeyboardInterrupt):
            reproduce("exbl", **how, out=home / "drawn")
    assert (home / "drawn/results.json").exists() and not (home / "drawn/maps.png").exists()
    reproduce("exbl", **how, out=home / "drawn", resume=True)
    assert (home / "drawn/maps.png").exists() and open_run(home / "drawn")
    shutil.rmtree(home / "drawn")


# Two runs in one folder


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["run-0", "run-3", "stage-exbl"])
def test_the_second_run_in_a_folder_is_refused(again, resume, name):
    (home, how), lock = again, f".xbl-kit-{name}.lock"
    (home / "run/results.json").unlink()
    before = {path.name for path in (home / "run").iterdir()}
    with (
        FileLock(home / "run" / lock),
        pytest.raises(ValueError, match=r"run: another process is at work here; wait for it"),
    ):
        reproduce("exbl", **how, out=home / "run", resume=resume)
    assert {path.name for path in (home / "run").iterdir()} - {lock} == before


def test_the_locks_of_others_are_theirs(tmp_path):
    for name in (".exbl.lock", ".run-0.lock", ".poetry.lock"):
        (tmp_path / name).write_text("mine")
    with FileLock(tmp_path / ".poetry.lock"):  # an older filelock empties what it locks
        held = (tmp_path / ".poetry.lock").read_text()
        with stages.alone(tmp_path):
            pass
        assert (tmp_path / ".poetry.lock").read_text() == held
    assert {(tmp_path / name).read_text() for name in (".exbl.lock", ".run-0.lock")} == {"mine"}
    assert len(list(tmp_path.iterdir())) == 3


def test_comparisons_share_a_folder_and_runs_do_not(tmp_path):
    out = tmp_path / "out"
    with stages.alone(out, sharing=True), stages.alone(out, sharing=True):
        with pytest.raises(ValueError, match="another process is at work here; wait for it"):
            stages.alone(out).__enter__()
        with pytest.raises(ValueError, match="another process"):
            reproduce("exbl", out=out, device="cpu")
        with pytest.raises(ValueError, match="join it with --resume"):
            compare(["rrr"], out=out, device="cpu")
    assert not out.exists(), "nothing is left of who had nothing to do"


# Files are whole, as large as the disk, and for all to read


def _exemplar(path: Path, n: int) -> None:
    side = Explained(torch.rand(n, 1, 8, 8), torch.rand(n, 2, 2), (0,) * n, ("a",) * n)
    Exemplar(side, side).save(path)


def _stem(path: Path, n: int) -> None:
    model = build_classifier("mobilenet_v2")
    model.prefix, model.body = model.body[0][:2], model.body[0][2:]
    file = path.parent / "stem"
    cache_stem(model, np.zeros((n, 32, 32), dtype=np.uint8), file)
    shutil.copyfile(next(file.glob("*.npy")), path)


def _pictures(path: Path, n: int) -> None:
    root = path.parent / f"pictures-{n}"
    rows = [
        {"image": f"{i}.png", "label": "ab"[i % 2], "patient": i} for i in range(min(64, 2 * n + 2))
    ]
    root.mkdir(exist_ok=True)
    for row in rows:
        grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
        Image.fromarray(np.roll(grey, row["patient"])).save(root / row["image"])
    pd.DataFrame(rows).to_csv(root / "metadata.csv", index=False)
    open_dataset("table", root, size=32)


def _written_table(path: Path, n: int) -> None:
    per_cell = {"train": -(-n // 20)}
    write_table(open_dataset("phantom", per_cell=per_cell, size=32), path.parent / "table")


def _own(path: Path, n: int) -> None:
    OwnFiles(path.parent / "own").write("a.bin", bytes(100 * n))


WRITERS = {
    "json": (lambda path, n: write_json(path, {"a": "x" * 100 * n}), "file"),
    "exemplar": (_exemplar, "file"),
    "weights": (lambda path, n: save_model(torch.nn.Linear(n, 30), path), "file"),
    "state": (lambda path, n: save_state({"a": torch.rand(n, 100)}, path), "file"),
    "any": (lambda path, n: write_whole(path, bytes(n * 100)), "file"),
    "beside": (lambda path, n: write_beside(path.with_name(f"b{n}"), bytes(n * 100)), "b1"),
    "own": (_own, "own/a.bin"),
    "figure": (
        lambda path, n: write_whole(path, plots.png(plots.gallery([torch.rand(n, n)] * min(n, 9)))),
        "file",
    ),
    "table": (_written_table, "table/metadata.csv"),
    "pictures": (_pictures, "cache/images/*.npy"),
    "stem": (_stem, "stem/*.npy"),
}


@contextmanager
def _small_disk(size: int):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("writer", WRITERS)
def test_on_a_full_disk_the_old_file_is_intact(writer, tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    write, name = WRITERS[writer]
    write(tmp_path / "file", 1)
    (file,) = tmp_path.glob(name)
    old = file.read_bytes()
    size = max(4096, len(old))
    with _small_disk(size), pytest.raises(OSError, match="File too large") as error:
        write(tmp_path / "file", 900)
    assert "\n" not in str(error.value)
    if writer != "table":  # whose old files, all listed, were removed first
        assert file.read_bytes() == old
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize(
    "writer", ["json", "exemplar", "weights", "state", "own", "pictures", "stem"]
)
def test_the_umask_says_who_may_read(writer, mask, tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    write, name = WRITERS[writer]
    before = os.umask(mask)
    try:
        write(tmp_path / "file", 1)
    finally:
        os.umask(before)
    (file,) = tmp_path.glob(name)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


def test_only_our_own_half_files_whose_owner_is_gone_are_removed(tmp_path):
    def name(pid: int) -> str:
        found = []
        real, os.getpid = os.getpid, lambda: pid
        try:
            write_whole(tmp_path / "a", lambda path: found.append(path.name) or path.write_text(""))
        finally:
            os.getpid = real
        return found[0]

    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    gone, alive = name(done.pid), name(os.getpid())
    theirs = ["a.partial", ".a.partial", f".a.{done.pid}.partial", gone.replace("-", "-other-", 1)]
    for each in (gone, alive, *theirs):
        (tmp_path / each).write_text("half")
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", alive, *theirs}


# Caches


def _manifest(columns: dict, **how) -> Manifest:
    return Manifest(pd.DataFrame(columns), (Path(),), **how)


ALIKE = {
    "as images and masks": _manifest({"image": ["a", "c"], "mask": ["b", "d"]}),
    "as other images and masks": _manifest({"image": ["a", "b"], "mask": ["c", "d"]}),
    "of several frames": _manifest({"image": ["a", "b", "c", "d"]}, frames=2),
    "with an option": _manifest(
        {"image": ["a", "b", "c", "d"]}, read=partial(read_frames, pad=True)
    ),
    "read otherwise": _manifest({"image": ["a", "b", "c", "d"]}, read=write_whole),
    "under one long name": _manifest({"image": ["a', 'b", "c", "d"]}),
}


@pytest.mark.parametrize("other", ALIKE)
def test_the_same_files_listed_in_another_way_are_another_cache(other):
    keys = [cache_key(each, 8) for each in (_manifest({"image": [*"abcd"]}), ALIKE[other])]
    assert keys[0] != keys[1] != cache_key(ALIKE[other], 9)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (("ab", "c"), ("a", "bc")),
        ((np.zeros((2, 3)),), (np.zeros((3, 2)),)),
        ((np.zeros(2, np.int32),), (np.zeros(1, np.int64),)),
        ((np.zeros(1), np.zeros(2)), (np.zeros(2), np.zeros(1))),
        (("a", np.zeros(0)), (np.zeros(0), "a")),
    ],
)
def test_what_differs_in_shape_has_another_digest(one, two):
    assert digest(*one) != digest(*two) and digest(*one) == digest(*one)


def test_a_file_changed_while_it_is_read_does_not_stay_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    root = _write(tmp_path / "data", _rows()[:6])
    read, first = picture.read_picture, root / "images/0.png"
    stat, content = first.stat(), first.read_bytes()

    def meanwhile(path):
        if path == first:
            Image.fromarray(np.zeros((16, 16), np.uint8)).save(first)
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(picture, "read_picture", meanwhile)
        with pytest.raises(ValueError, match="has changed while it was read; open the data again"):
            open_dataset("table", root, size=8)
    first.write_bytes(content)
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    before = open_dataset("table", root, size=8).images.copy()
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache-2"))
    assert np.array_equal(open_dataset("table", root, size=8).images, before)


SPOILED = {"cut": lambda b: b[:-1], "empty": lambda b: b"", "head": lambda b: b[:90]}


@pytest.mark.parametrize("spoil", SPOILED)
@pytest.mark.parametrize("kind", ["pictures", "stem", "phantoms"])
def test_a_cache_that_is_not_whole_is_made_anew(kind, spoil, tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    make, name = {
        "pictures": (
            lambda: open_dataset("table", tmp_path / "pictures-1", size=32),
            "*/*/*.npy",
        ),
        "stem": (lambda: _stem(tmp_path / "file", 2), "stem/*.npy"),
        "phantoms": (
            lambda: open_dataset("phantom", per_cell={"train": 1}, size=32),
            "*/phantoms/*.npy",
        ),
    }[kind]
    _pictures(tmp_path / "file", 1)
    make()
    (file,) = tmp_path.glob(name)
    whole = file.read_bytes()
    file.write_bytes(SPOILED[spoil](whole))
    make()
    assert file.read_bytes() == whole


def test_phantoms_are_drawn_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "cache"))
    how = {"per_cell": {"train": 2}, "size": 32}
    first = open_dataset("phantom", **how)
    with monkeypatch.context() as patch:
        patch.setattr(cohort, "make_phantoms", None)
        again = open_dataset("phantom", **how)
        for other in ({"seed": 1}, {"severity": 0.5}, {"size": 33}, {"per_cell": {"train": 3}}):
            with pytest.raises(TypeError):
                open_dataset("phantom", **how | other)
        patch.setattr(cohort, "code_digest", lambda folder: "another version")
        with pytest.raises(TypeError):
            open_dataset("phantom", **how)
    assert np.array_equal(first.images, again.images) and again.images.flags.writeable
    for region, mask in first.masks.items():
        assert np.array_equal(mask, again.masks[region]) and mask.dtype == bool
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "file"))
    assert np.array_equal(open_dataset("phantom", **how).images, first.images), "it is no must"


# Files of others


def _with(value: float, key: str) -> dict:
    state = build_classifier("small_cnn").state_dict()
    state[key].view(-1)[0] = value
    return state


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["image", "cam"])
def test_an_exemplar_that_is_no_number_is_refused(value, where, tmp_path):
    _exemplar(tmp_path / "pick.npz", 1)
    with np.load(tmp_path / "pick.npz") as there:
        arrays = dict(there)
    arrays[f"bad_{where}"][0].flat[0] = value
    np.savez(tmp_path / "pick.npz", **arrays)
    with pytest.raises(ValueError, match=rf"pick\.npz: not an .*{where} holds NaN or an infinite"):
        Exemplar.load(tmp_path / "pick.npz")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_weights_that_are_no_number_are_refused(value, name, tmp_path):
    model, path = build_classifier("small_cnn"), tmp_path / name
    model.body[0].weight.data.view(-1)[3] = value
    if name == "w.pth":
        torch.save(model.state_dict(), path)
    else:
        save_model(model, path)
    with pytest.raises(ValueError, match=rf"{name}: 'body\.0\.weight' holds NaN or an infinite"):
        build_classifier("small_cnn", weights=path)


@pytest.mark.parametrize(
    "record",
    [
        "[]",
        "3",
        "{}",
        '{"x": 1}',
        "null",
        '"text"',
        "nonsense",
        '{"given": {}, "results": {}}',
        "[" * 5000,
    ],
)
@pytest.mark.parametrize("name", ["stage-exbl.json", "results.json", "run.json"])
def test_records_of_another_kind_are_told_in_one_line(again, record, name):
    home, how = again
    (home / "run" / name).write_text(record)
    try:
        reproduce("exbl", **how, out=home / "run", resume=True)
    except ValueError as error:
        assert "\n" not in str(error) and name in str(error) and name != "results.json"
    else:
        assert "models" in json.loads((home / "run/results.json").read_text())
        assert name == "results.json" or record == "null"


@pytest.mark.parametrize("key", ["files", "settings", "inputs", "done", "exemplar", "written_by"])
@pytest.mark.parametrize("value", [None, 3, "x", [{"a": 1}]])
def test_a_run_record_with_other_values_is_told_in_one_line(again, key, value):
    home, how = again
    record = json.loads((home / "run/run.json").read_text())
    for call in (
        partial(open_run, home / "run"),
        partial(reproduce, "exbl", **how, out=home / "run", resume=True),
    ):
        (home / "run/run.json").write_text(json.dumps(record | {key: value}))
        try:
            call()
        except (ValueError, FileNotFoundError) as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "state",
    [
        {"method": {}, "history": [], "best": None},
        {"history": 3},
        {"run": 1},
        [1, 2],
        {"method": {"model.heads.0.2.weight": torch.zeros(1)}, "history": [], "optimizer": {}},
    ],
)
def test_a_state_of_another_shape_is_told_in_one_line(state, small_cohort, tmp_path):
    torch.save(state, tmp_path / "state.pt")
    rows = torch.arange(8)
    method = erm(build_classifier("small_cnn"), Known(small_cohort, rows))
    with pytest.raises(ValueError, match=r"state\.pt: .*delete it to start anew") as error:
        fit(method, small_cohort, rows, rows, epochs=1, device="cpu", state=tmp_path / "state.pt")
    assert "\n" not in str(error.value)


def test_a_state_names_its_run(tmp_path):
    save_state({"a": 1}, tmp_path / "a.pt", "this")
    assert load_state(tmp_path / "a.pt", "this")["a"] == 1
    with pytest.raises(ValueError, match=r"a\.pt: the state of another training; delete it"):
        load_state(tmp_path / "a.pt", "that")


def test_an_exemplar_of_other_data_is_refused(again, tmp_path):
    _, how = again
    side = Explained(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 2), (0,), ("a",))
    Exemplar(side, side).save(tmp_path / "small.npz")
    side = Explained(torch.rand(1, 1, 16, 16), torch.rand(1, 2, 2), (0,), ("c",))
    Exemplar(side, side).save(tmp_path / "label.npz")
    for name, what in (
        ("small", r"exemplar of \(8, 8\) pixels"),
        ("label", "exemplar's label 'c'"),
    ):
        with pytest.raises(ValueError, match=what):
            reproduce("exbl", **how | {"exemplars": tmp_path / f"{name}.npz"})


def test_the_same_data_written_again_are_the_same(again):
    home, how = again
    for path in (home / "data").rglob("*"):
        os.utime(path)
    before = (home / "run/results.json").read_text()
    assert reproduce("exbl", **how, out=home / "run", resume=True) == json.loads(before)
