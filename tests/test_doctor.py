"""`xbl-kit doctor`: a line each, and what is missing has a way out."""

import importlib.metadata
import json
import shutil
import sys

import psutil
import pytest
import torch
import torchvision

from xbl_kit import doctor
from xbl_kit.cli import main

REQUIRES = importlib.metadata.requires


@pytest.fixture(autouse=True)
def sound(monkeypatch):
    """A machine on which nothing is missing, whatever this one has."""
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy>=1.26"])


def lines(capsys) -> list[str]:
    return capsys.readouterr().out.splitlines()


def missing(check) -> doctor.Finding:
    (found,) = [one for one in check() if one.status == "missing"]
    return found


def test_a_sound_machine_is_said_to_be_one_in_a_line_each(capsys):
    assert main(["doctor"]) == 0
    said = lines(capsys)
    assert len(said) == len(doctor.CHECKS) and {line[:8].strip() for line in said} <= {"ok", "note"}
    assert f"torch {torch.__version__.split('+')[0]}" in said[2]


def test_json_is_for_machines(capsys):
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [set(one) for one in found] == [{"status", "what", "mend"}] * len(doctor.CHECKS)


def test_all_that_the_kit_names_is_there(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", REQUIRES)
    (found,) = doctor._packages()
    assert found.status == "ok" and int(found.what.split()[0]) > 15


@pytest.mark.parametrize(
    ("requirement", "words", "mend"),
    [
        ("numpy>=99", f"numpy {importlib.metadata.version('numpy')}, expected >=99", "numpy>=99"),
        ('xbl-absent>=2; extra == "lab"', "xbl-absent is not installed", "xbl-absent>=2"),
    ],
)
def test_a_package_that_is_missing_or_old_fails_and_is_named(
    requirement, words, mend, monkeypatch, capsys
):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: [requirement, "torch>=2"])
    assert main(["doctor"]) == 1
    assert f'missing  {words}; pip install "{mend}"' in lines(capsys)


def test_what_only_tests_need_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ['absent; extra == "test"'])
    assert [one.status for one in doctor._packages()] == ["ok"]


def test_torch_beside_another_torchvision_is_said(monkeypatch):
    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    found = missing(doctor._networks)
    assert "(operator torchvision::nms does not exist)" in found.what
    assert "pip install --upgrade torch torchvision" in found.mend


def test_without_torch_the_rest_is_still_looked_at(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["doctor"]) == 1
    said = lines(capsys)
    assert len(said) == len(doctor.CHECKS)
    assert said[2].startswith("missing") and said[3].startswith("note     gpu: could not be looked")
    assert any("fonts" in line and line.startswith("ok") for line in said)


def test_an_old_python_is_said(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert "install Python 3.11" in missing(doctor._python).mend


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    def full(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("XBL_KIT_CACHE", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", full)
    found = missing(doctor._cache)
    assert str(tmp_path / "not" / "yet") in found.what and "XBL_KIT_CACHE" in found.mend
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("check", "change", "words"),
    [
        (doctor._memory, (psutil, "virtual_memory", 1e9), "close other programs"),
        (doctor._cache, (shutil, "disk_usage", 1e9), "a disk with 2 GB"),
        (doctor._threads, (torch, "get_num_threads", 500), "set OMP_NUM_THREADS="),
        (doctor._browser, (shutil, "which", None), "playwright install chromium"),
        (
            doctor._weights,
            (torch.hub, "get_dir", "nowhere"),
            "give mobilenet_v2-b0353104.pth by --weights",
        ),
    ],
)
def test_what_could_be_better_is_a_note(check, change, words, monkeypatch):
    of, name, value = change
    sizes = type("Sizes", (), {"available": value, "free": value})
    answer = sizes if name in ("virtual_memory", "disk_usage") else value
    monkeypatch.setattr(of, name, lambda *_: answer)
    (found,) = check()
    assert found.status == "note" and words in found.mend
