"""The command: usage, exit codes, one clear line for every error."""

import json
import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from test_run import _small  # noqa: F401  (makes every run small)
from test_table import _write

from xbl_kit.cli import main


def test_reproduce_prints_a_table_and_where_things_are(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["reproduce", "exbl", "--seed", "2", "--out", str(out), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    assert "unrefined" in printed.out and "worst group" in printed.out and str(out) in printed.out
    assert printed.err == "", "no progress bars where there is no terminal"


def test_json_is_results_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "exbl", "--json", "--device", "cpu"]) == 0
    printed = json.loads(capsys.readouterr().out)
    folder = tmp_path / "build/exbl-phantom-classroom-0"
    assert printed == json.loads((folder / "results.json").read_text())


def test_compare_prints_a_table_and_where_things_are_and_joins_what_is_done(tmp_path, capsys):
    arguments = ["compare", "--methods", "rrr", "--seeds", "3", "--device", "cpu"]
    arguments += ["--controls", "region-only", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert "balanced worst group" in printed.out and "160 masks" in printed.out
    assert "region-only" in printed.out and str(tmp_path / "out") in printed.out
    assert main([*arguments, "--resume", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((tmp_path / "out/results.json").read_text())
    assert {row["control"] for row in results["table"]} == {None, "region-only"}
    assert results["settings"]["seeds"] == [3] and results["settings"]["preset"] == "classroom"
    assert main([*arguments, "--resume", "--images", "3"]) == 1
    assert "run.json: holds a run with images [], expected [3]" in capsys.readouterr().err


def test_a_list_given_twice_is_both(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = ["--models", "erm", "--models", "reweighted, unrefined"]
    assert main(["reproduce", "exbl", "--json", "--device", "cpu", *models]) == 0
    assert set(json.loads(capsys.readouterr().out)["models"]) == {"erm", "reweighted", "unrefined"}


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reproduce"],
        ["reproduce", "exbl", "--data", "dicom"],
        ["reproduce", "exbl", "--seed", "one"],
        ["reproduce", "exbl", "--region", "0.1,left,1,1"],
        ["reproduce", "exbl", "--preset", "huge"],
        ["reproduce", "exbl", "--option", "views"],
        ["reproduce", "exbl", "--option", "size=64"],
        ["compare", "--images", "ten"],
        ["compare", "--precision", "fp16"],
    ],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage: xbl-kit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "table"], "no root was given"),
        (["--data", "table", "--root", "absent"], "absent: no such folder"),
        (["--data", "table", "--root", "one"], "label 'a' has 1 patient"),
        (["--exemplars", "absent.npz"], "absent.npz: no such exemplar file"),
        (["--weights", "absent.pth"], "small_cnn, expected None"),
        (["--preset", "paper", "--weights", "absent.pth"], "absent.pth: no such weights file"),
        (["--option", "views=AP"], "expected no options of reading"),
        (["--region", "heart"], "region 'heart'"),
        (["--region", "0.5,0,0.1,1"], "expected left < right"),
    ],
)
def test_bad_input_is_one_line_exit_1_and_nothing_half_written(
    arguments, message, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = [{"image": f"images/{i}.png", "label": "abbbbb"[i]} for i in range(6)]
    _write(tmp_path / "one", rows)
    assert main(["reproduce", "exbl", "--device", "cpu", "--out", "out", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("xbl-kit: ") and error.count("\n") == 1
    assert not (tmp_path / "out" / "results.json").exists()


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "xbl_kit", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("xbl-kit 0.")


def test_weights_that_cannot_be_downloaded_are_said_before_anything_is_drawn(
    tmp_path, capsys, monkeypatch
):
    def offline(*_, **__):
        raise URLError("no network")

    def draw(*_):
        raise AssertionError("drawn in vain")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr("xbl_kit.run.task._draw", draw)
    out = str(tmp_path / "out")
    assert main(["reproduce", "exbl", "--preset", "paper", "--device", "cpu", "--out", out]) == 1
    told = capsys.readouterr().err.splitlines()[-1]  # the one before is torch's: "Downloading"
    assert told.startswith("xbl-kit: the ImageNet weights") and "--weights FILE" in told
