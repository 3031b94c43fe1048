"""Shapes and types of the whole package are checked while the tests run."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from filelock import FileLock
from jaxtyping import install_import_hook
from xdist.scheduler import LoadScopeScheduling

install_import_hook("xbl_kit", "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_xdist_make_scheduler(config, log):
    """With `--dist loadscope`: tests that share an opened page run in one process, others alone.

    (pytest-xdist 3.8 has `--dist loadgroup` for this; with pytest 9.2 that groups nothing.)
    """

    class ByPage(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return f"{file}[{test.partition('[')[2]}" if "browser/" in file else nodeid

    return ByPage(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """Caches of images and of frozen prefixes are made anew, and forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XBL_KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """`once(name, fill)`: a folder that `fill(folder)` fills once, for all processes of xdist.

    What lies there is shared, and so only to be read.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own if worker_id == "master" else own.parent

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        folder = shared / "once" / name
        with FileLock(shared / f"{name}.lock"):  # who comes second waits, and reads
            if not folder.exists():
                partial = tmp_path_factory.mktemp(name)
                fill(partial)
                folder.parent.mkdir(exist_ok=True)
                partial.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def builder():
    """`notebooks/build.py`, which runs the lessons and writes the exercises."""
    spec = spec_from_file_location("lesson_builder", ROOT / "notebooks" / "build.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cxr() -> Path:
    """Real chest X-rays as a table data set; they are not part of the repository."""
    folder = SHARED / "data" / "cxr"
    if not folder.is_dir():
        pytest.skip("the real chest X-rays are not on this machine")
    return folder


@pytest.fixture(scope="session")
def imagenet_weights() -> Path:
    """ImageNet weights of MobileNetV2; they are not part of the repository."""
    file = SHARED / "weights" / "mobilenet_v2_imagenet_8bit.pth"
    if not file.is_file():
        pytest.skip("the ImageNet weights are not on this machine")
    return file


@pytest.fixture
def small_cohort():
    """Phantoms of 32 px, few enough to train on within a test."""
    from xbl_kit.data import open_dataset

    return open_dataset("phantom", per_cell={"train": 8, "val": 4, "test": 4}, size=32)
