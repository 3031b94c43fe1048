"""What is kept on disk, each file written whole or not at all."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from xbl_kit.storage import write_whole


def write_json(path: str | Path, content: dict) -> None:
    """Write `content` as JSON; a NaN is an error, since JSON has none."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def load_json(path: str | Path) -> dict | None:
    """The content of a JSON file, or None where there is none.

    Raises ValueError naming the file where it holds something else.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected names with values")
    return content


def save_model(model: nn.Module, path: str | Path) -> None:
    """Write the weights of `model` as safetensors."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_whole(path, lambda partial: save_file(state, partial))


def load_model(model: nn.Module, path: str | Path) -> None:
    """Read weights that `save_model` wrote into `model`.

    Raises ValueError naming the file where it is damaged or belongs to another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}") from error


def save_state(path: str | Path, state: dict) -> None:
    """Write the state of a training run that may be resumed."""
    write_whole(path, lambda partial: torch.save(state, partial))


def load_state(path: str | Path) -> dict | None:
    """The state that `save_state` wrote, on the CPU, or None where there is none."""
    if not Path(path).exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path}: not a readable training state; delete it to start anew"
        ) from error
