"""The benchmark's ratios, loosely: seconds are nobody's business on a busy machine."""

import importlib.util
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ratios(rows) -> dict:
    return {row["side"]: row["ratio"] for row in rows}


def test_an_explanation_loss_costs_little_and_second_order_much(speed):
    found = ratios(speed.steps_of("small_cnn", 64, 32, repeats=3))
    assert found["eXBL"] < 1.7 and found["RRR-G"] < 1.7
    assert found["RRR"] > 2, "its gradient goes back through the whole network"


def test_a_map_costs_hardly_more_than_the_forward_pass(speed):
    found = ratios(speed.maps_of("resnet18", size=96, repeats=3))
    assert found["xbl-kit"] < 1.6 and found["xbl-kit"] < found["captum"] * 1.2


def test_maps_that_are_not_alike_are_said(speed):
    cam = torch.rand(3, 4, 4)
    assert speed.correlation(cam, 2 * cam) > 0.999
    assert speed.correlation(cam, cam.flip(0)) < 0.9
