"""Whatever goes wrong is told in one line, and text stays text wherever it is drawn or written."""

import html
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from xbl_kit import cli, plots
from xbl_kit.data.describe import describe_data, markdown
from xbl_kit.models import build_classifier
from xbl_kit.run import reproduce
from xbl_kit.storage import load_model, save_model

ERRORS = [
    (ValueError("no\nsuch thing"), "no such thing"),
    (OSError(28, "No space left on device", "out/a.pt"), "No space left on device: 'out/a.pt'"),
    (KeyError("models"), "KeyError: 'models'; --debug shows where"),
    (ZeroDivisionError(), "ZeroDivisionError: ; --debug shows where"),
    (RecursionError("a\nb"), "RecursionError: a b; --debug shows where"),
    (MemoryError(), "out of memory (MemoryError); a smaller size or batch"),
    (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "a smaller size or batch"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        "a smaller size or batch",
    ),
    (OSError(12, "Cannot allocate memory"), "a smaller size or batch"),
]


@pytest.mark.parametrize(("error", "said"), ERRORS)
@pytest.mark.parametrize("command", [["reproduce", "exbl"], ["data", "check", "--data", "table"]])
def test_every_error_is_one_line(command, error, said, capsys, monkeypatch):
    def fail(*given, **how):
        raise error

    monkeypatch.setattr("xbl_kit.run.reproduce", fail)
    monkeypatch.setattr("xbl_kit.run.check_data", fail)
    assert cli.main(command) == 1
    told = capsys.readouterr().err
    assert told.startswith("xbl-kit: ") and said in told and told.count("\n") == 1
    with pytest.raises(type(error)):
        cli.main([*command, "--debug"])


@pytest.mark.parametrize(
    ("command", "goes_on"),
    [
        ("reproduce exbl --out 'a b'", "`xbl-kit reproduce exbl --out 'a b' --resume` goes on"),
        ("compare --resume", "`xbl-kit compare --resume` goes on"),
        ("data check --data table", "`xbl-kit data check --data table` starts anew"),
    ],
)
def test_an_interruption_is_one_line_that_says_how_to_go_on(command, goes_on, capsys, monkeypatch):
    def interrupted(*given, **how):
        raise KeyboardInterrupt

    for name in ("reproduce", "compare", "check_data"):
        monkeypatch.setattr(f"xbl_kit.run.{name}", interrupted)
    assert cli.main(shlex.split(command)) == 130
    assert capsys.readouterr().err == f"xbl-kit: interrupted; {goes_on}\n"


def test_a_real_interruption_ends_with_130(tmp_path):
    command = [sys.executable, "-m", "xbl_kit", "reproduce", "exbl", "--out", str(tmp_path / "out")]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(1200):  # until it is at work
        if (tmp_path / "out").exists():
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 130 and said.count("\n") == 1 and said.endswith("--resume` goes on\n")
    assert not (tmp_path / "out").exists(), "no lock is left, nor a folder that holds nothing"


# Text is text

NAMES = ["$\\bad$", "<script>alert(1)</script>", "a|b", "`x`", "$x$ & *y*", "_z_", "^{\\frac"]


@pytest.mark.parametrize("name", NAMES)
def test_figures_show_any_name(name):
    tensor = torch.rand(2, 4, 4)
    maps = {name: tensor}
    table = pd.DataFrame([[0.5, 0.5]], index=[name], columns=[name, f"{name} 2"])
    figures = [
        plots.gallery(tensor, titles=[name]),
        plots.map_grid(tensor[:, None], maps, titles=[name] * 2, notes={name: [name] * 2}),
        plots.split_bars({"A": {name: 0.5}, "B": {name: 0.4}}, ylabel=f"{name}."),
        plots.dots([(name, name, "A", 0.5, 0.1)], xlabel=name, chance=0.2),
        plots.share_maps({name: table}),
        plots.scatter(tensor[0, :, :2], {name: ((name,), torch.zeros(4).long())}, title=name),
    ]
    assert all(plots.png(figure)[:4] == b"\x89PNG" for figure in figures)


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_any_name(name):
    table = pd.DataFrame({name: [0.5, name]}, index=[name, f"{name}\n{name}"])
    lines = markdown(table).split("\n")
    assert len(lines) == 4 and "<script" not in "".join(lines)
    for line in lines:
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") == 3 and "`" not in line.replace("\\`", "")
    shown = lines[0].split(" | ")[-1].removesuffix(" |")
    for mark in "\\`*[]|$~_":
        shown = shown.replace(f"\\{mark}", mark)
    assert html.unescape(shown) == name


@pytest.fixture
def odd(tmp_path):
    """A table whose classes, levels and column have names of all kinds."""
    rng, rows = np.random.default_rng(0), []
    for number in range(48):
        label, level = NAMES[number % 2], NAMES[2 + number // 2 % 2]
        grey = rng.integers(100 * (number % 2), 100 + 100 * (number % 2), (20, 20), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
        rows.append({"image": f"{number}.png", "label": label, "age.group": level})
    pd.DataFrame(rows).to_csv(tmp_path / "metadata.csv", index=False)
    return tmp_path


@pytest.mark.parametrize("method", ["unrefined", "reweighted", "mimm-x", "club", "adversary"])
def test_a_run_with_odd_names_comes_to_its_end(odd, method):
    plan = {"size": 16, "backbone": "small_cnn", "weights": "none"}
    plan |= {"train": {"epochs": 1}, "features": 4, "content": {"probe": {"permutations": 1}}}
    how = {"data": "table", "root": odd, "confounders": ["age.group"], "strength": None}
    reproduce("mimm-x", **how, models=[method], plan=plan, device="cpu", out=odd / "out")
    assert (odd / "out/accuracy.png").exists()


def test_a_data_card_shows_odd_names(odd):
    describe_data("table", odd, out=odd / "out")
    card = (odd / "out/data-card.md").read_text()
    assert "<script" not in card and (odd / "out/bias.png").exists()


# Weights of others


def _wrapped(kind: str, state: dict) -> object:
    named = {"module.": "module.", "model.": "model.", "_orig_mod.": "_orig_mod."}
    named |= {"several": "module._orig_mod.model."}
    if kind in named:
        return {named[kind] + name: tensor for name, tensor in state.items()}
    if kind == "lightning":
        return {"state_dict": {f"model.{name}": t for name, t in state.items()}, "epoch": 3}
    return {kind: state, "epoch": 3} if kind != "plain" else state


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "mobilenet_v2"])
@pytest.mark.parametrize(
    "kind",
    ["plain", "module.", "model.", "_orig_mod.", "several", "state_dict", "model_state_dict",
     "lightning", "model"],
)  # fmt: skip
def test_weights_under_other_names_are_read(name, kind, tmp_path):
    wanted = build_classifier(name, 3, seed=4)
    torch.save(_wrapped(kind, wanted.state_dict()), tmp_path / "w.pth")
    found = build_classifier(name, 2, weights=tmp_path / "w.pth")
    image = torch.rand(2, 1, 64, 64)
    assert torch.equal(found.eval().encode(image), wanted.eval().encode(image))


@pytest.mark.parametrize("name", ["small_cnn", "resnet18", "densenet121", "mobilenet_v2"])
def test_weights_that_the_kit_saved_are_read(name, tmp_path):
    image = torch.rand(2, 1, 64, 64)
    first = build_classifier(name, 3, seed=4).eval()
    for number in range(2):  # the second time they are those of a network that was cut
        save_model(first, tmp_path / f"{number}.safetensors")
        second = build_classifier(name, 2, weights=tmp_path / f"{number}.safetensors").eval()
        assert torch.equal(first.encode(image), second.encode(image))
        first = second


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.DataParallel])
def test_a_wrapped_model_is_saved_and_loaded_as_itself(wrap, tmp_path):
    model, other = build_classifier("small_cnn", seed=1), build_classifier("small_cnn", seed=2)
    save_model(wrap(model), tmp_path / "a.safetensors")
    load_model(other, tmp_path / "a.safetensors")
    load_model(wrap(build_classifier("small_cnn")), tmp_path / "a.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def _changed(**changes: object) -> dict:
    state = build_classifier("small_cnn").state_dict()
    for name, value in changes.items():
        state[name.replace("__", ".")] = value
    return {name: tensor for name, tensor in state.items() if tensor is not None}


UNFIT = {
    "shape": (
        _changed(body__0__weight=torch.rand(8, 1, 3, 3)),
        r"'body\.0\.weight': has \(8, 1, 3, 3\), expected \(16, 1, 3, 3\)",
    ),
    "missing": (_changed(body__3__weight=None), r"'body\.3\.weight': has none, expected \(32"),
    "unknown": (
        _changed(body__99__weight=torch.rand(2)),
        r"'body\.99\.weight': has \(2,\)",
    ),
    "empty": ({}, "holds no weights by name"),
    "numbers": ({0: torch.rand(2)}, "holds no weights by name"),
    "texts": ({"a": "b"}, "holds no weights by name"),
    "nested": ({"a": {"b": torch.rand(2)}}, "holds no weights by name .at 'a' dict"),
    "whole numbers": (
        {name: tensor.int() for name, tensor in build_classifier("small_cnn").state_dict().items()},
        r"has torch\.int32, expected torch\.float32",
    ),
    "more than tensors": (pd.Series([1]), "more than tensors, or none: it begins with b'PK"),
    "list": ([torch.rand(2)], "holds a list, expected a state dict"),
    "tensor": (torch.rand(2), "holds a Tensor, expected a state dict"),
    "sparse": ({"a": torch.eye(2).to_sparse()}, "(holds no weights|not a file)"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_weights_that_do_not_fit_are_refused_in_one_line(unfit, tmp_path):
    content, said = UNFIT[unfit]
    torch.save(content, tmp_path / "w.pth")
    for read in (
        lambda: build_classifier("small_cnn", weights=tmp_path / "w.pth"),
        lambda: load_model(build_classifier("small_cnn"), tmp_path / "w.pth"),
    ):
        with pytest.raises(ValueError, match=rf"w\.pth.*{said}") as error:
            read()
        assert "\n" not in str(error.value)
