"""Explanations of a prediction, differentiable so that a loss may shape them.

All maps are of 32 bits or more: half precision goes in, and none comes out.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """The tensor in 32 bits where it has fewer."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def grad_cam(
    features: Float[Tensor, "b c h w"],
    logits: Float[Tensor, "b k"],
    target: Int[Tensor, " b"],
    *,
    create_graph: bool = False,
) -> Float[Tensor, "b h w"]:
    """Grad-CAM: relu(sum_c w_c A_c), w_c the mean over space of d logit_target / d A_c.

    Selvaraju et al. 2017, eq. 1-2, un-normalised, at the resolution of the features. `logits` must
    have been computed from `features` under `torch.enable_grad()`. The gradient passes through the
    head alone. With `create_graph=True` the map is differentiable, through the weights w_c too;
    without it the map is detached.

    Raises RuntimeError where `logits` do not depend on `features`, ValueError for features that
    are no maps or targets that are no column of the logits.

    >>> features = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]], requires_grad=True)
    >>> logits = torch.nn.functional.pad(features.mean(dim=(2, 3)), (0, 1))
    >>> grad_cam(features, logits, torch.tensor([0]))
    tensor([[[0.2500, 0.0000],
             [0.0000, 0.5000]]])
    """
    require_maps(features, logits, target)
    if not (features.requires_grad and logits.requires_grad):
        raise RuntimeError(
            "grad_cam needs features that require grad and logits computed from them under "
            "torch.enable_grad(), outside of torch.inference_mode(); call "
            "features.requires_grad_() and then the model's head"
        )
    score = logits.gather(1, target[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, features, create_graph=create_graph, retain_graph=True)
    weight = widened(gradient).mean(dim=(2, 3), keepdim=True)
    cam = (weight * features).sum(dim=1).relu()
    return cam if create_graph else cam.detach()


def require_maps(features: Tensor, logits: Tensor, target: Tensor) -> None:
    """Raise ValueError, with a way out, where Grad-CAM has no maps or no logit to explain."""
    if features.ndim != 4:
        what = "of a ViT let the body give tokens[:, 1:].mT.unflatten(2, (h, w)) to the head"
        raise ValueError(f"features are {tuple(features.shape)}, expected (b, c, h, w); {what}")
    if logits.ndim != 2:
        what = "of a single logit z give torch.stack([-z, z], dim=1), of tokens their mean"
        raise ValueError(f"logits are {tuple(logits.shape)}, expected (b, k); {what}")
    b, k = logits.shape
    if target.shape != (b,):
        raise ValueError(f"target is {tuple(target.shape)}, expected ({b},): one for each image")
    known = target.tolist() if target.device.type == "cpu" else ()  # others would be waited for
    if wrong := [each for each in known if not 0 <= each < k]:
        what = "of a single logit z give torch.cat([-z, z], dim=1)"
        raise ValueError(f"target {wrong[0]}, expected 0 to {k - 1} of logits {(b, k)}; {what}")


def log_odds(logits: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """log(p / (1 - p)) of every class: its logit minus the log-sum-exp of all others.

    A score for `grad_cam`. Its map is that of the softmax output p up to a factor an image,
    p (1 - p), that underflows where a model is sure. Unlike a logit's map it shows what speaks
    against the other classes, too.
    """
    logits = widened(logits)
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits[:, None, :].masked_fill(own, -torch.inf).logsumexp(dim=2)
    return logits - others


def input_gradient(
    image: Float[Tensor, "b 1 h w"], logits: Float[Tensor, "b k"], *, create_graph: bool = False
) -> Float[Tensor, "b h w"]:
    """The gradient by the image of the sum over all classes of log p (Ross et al. 2017, eq. 1).

    `image` must require grad before the model sees it. Unlike Grad-CAM this goes back through the
    whole network.
    """
    score = logits.log_softmax(dim=1).sum()
    (gradient,) = torch.autograd.grad(score, image, create_graph=create_graph, retain_graph=True)
    return widened(gradient[:, 0])


def normalise(cam: Float[Tensor, "b h w"], by: str = "max") -> Float[Tensor, "b h w"]:
    """Each map divided by its own maximum ("max") or Euclidean norm ("l2"), or left ("none").

    A map of zeros stays one. Raises ValueError for another `by`.
    """
    cam = widened(cam)
    if by == "none":
        return cam
    scales = {"max": torch.amax, "l2": torch.linalg.vector_norm}
    if by not in scales:
        raise ValueError(f'by={by!r}: expected "max", "l2" or "none"')
    return cam / scales[by](cam.flatten(1), dim=1).clamp_min(1e-8)[:, None, None]


def upsample(cam: Float[Tensor, "b h w"], size: tuple[int, int]) -> Float[Tensor, "b p q"]:
    """The maps resized to `size` (height, width), bilinear, as heat maps are usually shown.

    As two products of matrices: a sixth of the time of `interpolate` and its gradient, which on a
    GPU is another one every time.
    """
    cam = widened(cam)
    if tuple(cam.shape[1:]) == tuple(size):
        return cam
    rows, columns = (_linear(*pair, cam) for pair in zip(cam.shape[1:], size, strict=True))
    return rows.mT @ cam @ columns


def _linear(n: int, m: int, like: Tensor) -> Float[Tensor, "n m"]:
    """What each of n values in a row adds to m values between them."""
    each = torch.eye(n, dtype=like.dtype, device=like.device)[None]
    return F.interpolate(each, size=m, mode="linear", align_corners=False)[0]


def require_one_size(maps: Tensor, masks: Tensor) -> None:
    """Raise ValueError where maps and masks differ in shape: they would be broadcast."""
    if maps.shape != masks.shape:
        raise ValueError(
            f"maps are {tuple(maps.shape)} and masks {tuple(masks.shape)}; "
            "bring them to one size with explain.upsample"
        )


def image_times_cam(
    image: Float[Tensor, "b 1 h w"],
    cam: Float[Tensor, "b p q"],
    *,
    resolution: str = "input",
    by: str = "max",
) -> Float[Tensor, "b r s"]:
    """x * GradCAM(x), the explanation that eXBL compares (Hagos et al. 2023, eq. 4-7).

    The paper prints neither the resolution nor a scale for the map. "input" resizes the map to
    the image (bilinear), "features" the image to the map (area average), which is what the
    authors' published script does, at 7x7 and without any normalisation.
    """
    if resolution not in ("input", "features"):
        raise ValueError(f'resolution={resolution!r}: expected "input" or "features"')
    image, cam = widened(image), normalise(cam, by)
    if resolution == "input":
        return image[:, 0] * upsample(cam, tuple(image.shape[2:]))
    return F.adaptive_avg_pool2d(image, tuple(cam.shape[1:]))[:, 0] * cam
