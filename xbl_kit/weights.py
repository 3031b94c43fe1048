"""Files of weights, this kit's and others': read as tensors by name, and put where they fit."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPED = ("state_dict", "model_state_dict", "model")  # where others keep the weights


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of the layers, without what torch.compile, DataParallel, DDP, or
    Lightning put before them."""
    names = [re.sub(r"^((module|model)\.)+", "", name.replace("_orig_mod.", "")) for name in state]
    return dict(zip(names, state.values(), strict=True))


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file of safetensors or of torch's, by plain names, on the CPU.

    Raises FileNotFoundError, or ValueError where the file holds anything else, or no numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        is_safe = start[8:] == b"{"  # a length, and JSON
        state = load_file(path) if is_safe else torch.load(path, "cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "weights" in reason.lower():  # advice to run what is in the file
            reason = f"it holds more than tensors, or none: it begins with {start!r}"
        raise ValueError(f"{path}: not a file of weights that torch can read ({reason})") from error
    for name in WRAPPED:
        if isinstance(state, dict) and isinstance(state.get(name), dict):
            state = state[name]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: holds a {type(state).__name__}, expected a state dict")
    no = [n for n, t in state.items() if not (isinstance(n, str) and _is_dense(t))]
    if no or not state:
        found = f"at {no[0]!r} {type(state[no[0]]).__name__}" if no else "nothing"
        raise ValueError(f"{path}: holds no weights by name ({found}), expected tensors alone")
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise ValueError(f"{path}: {name!r} holds NaN or an infinite number")
    return plain(state)


def _is_dense(value: object) -> bool:
    is_tensor = isinstance(value, Tensor) and value.device.type == "cpu"
    return is_tensor and value.layout is torch.strided and not value.is_quantized


def fill(
    model: nn.Module, state: Mapping[str, Tensor], where: str, *, skip: Collection[str] = ()
) -> None:
    """Put weights into `model`, wrapped or not; parts that are named in `skip` stay as they are.

    Raises ValueError, which says `where` and names the first weight that is missing, of another
    shape, or not of this network.
    """
    own = model.state_dict()
    wanted = dict(zip(plain(own), own.items(), strict=True))
    names = [name for name in dict.fromkeys([*wanted, *state]) if name.split(".")[0] not in skip]
    found = {}
    for name in names:
        ours = tuple(wanted[name][1].shape) if name in wanted else "no such weights"
        given = tuple(state[name].shape) if name in state else "none"
        if given == "none" and name.endswith("num_batches_tracked"):  # which old files have not
            continue
        if given != ours:
            raise ValueError(f"{where}, at {name!r}: has {given}, expected {ours}")
        kind = wanted[name][1].dtype
        if kind.is_floating_point and not state[name].is_floating_point():
            raise ValueError(f"{where}, at {name!r}: has {state[name].dtype}, expected {kind}")
        found[wanted[name][0]] = state[name]
    model.load_state_dict(found, strict=False)
