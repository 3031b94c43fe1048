"""Files are whole or not there."""

import pytest
import torch

from xbl_kit import storage as checkpoint
from xbl_kit.models import build_classifier
from xbl_kit.storage import write_whole


def test_a_model_comes_back(tmp_path):
    model, other = build_classifier("small_cnn", seed=0), build_classifier("small_cnn", seed=1)
    checkpoint.save_model(model, tmp_path / "model.safetensors")
    checkpoint.load_model(other, tmp_path / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_damaged_or_foreign_weights_are_named(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoint.save_model(build_classifier("small_cnn"), path)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoint.load_model(build_classifier("resnet18"), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoint.load_model(build_classifier("small_cnn"), path)


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    checkpoint.write_json(path, {"a": 1})

    def half(partial):
        partial.write_text("{")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, half)
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write_json(path, {"a": float("nan")})
    assert checkpoint.load_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_absent_files_are_none_and_a_broken_state_is_named(tmp_path):
    assert checkpoint.load_json(tmp_path / "absent.json") is None
    assert checkpoint.load_state(tmp_path / "absent.pt") is None
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"state\.pt.*delete it"):
        checkpoint.load_state(tmp_path / "state.pt")
