"""MIMM-X: one encoder, a part of its features a task, and little information between the parts."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xbl_kit.batch import of_all
from xbl_kit.losses import GradNorm, clip_scale, even_scale
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.methods.information import Information, Options
from xbl_kit.methods.weighted import Bias, Corrected
from xbl_kit.models import Classifier


def mimm_x(model: Classifier, *, bias: Bias | None = None, **options) -> Method:
    """CE_y + `spurious` * sum_i CE_zi + `weight` * scale * sum_i a_i I(f_y; f_zi).

    `options` are those of `Options`; weight=0 is the multitask baseline. Raises ValueError for an
    option of no use or that does not fit the others, or a correction without `bias`.
    """
    chosen = Options(**options)
    if chosen.correction != "none" and bias is None:
        raise ValueError(f"correction={chosen.correction!r} needs a Bias: Bias.measured(...)")
    clock = partial(progress, delay=chosen.delay, ramp=chosen.ramp)
    terms = {"spurious": partial(spurious_loss, weight=chosen.spurious)}
    balance = None
    if chosen.weight and model.factors:
        terms["information"] = Information(model, clock, chosen)
        balance = {
            "clip": clip_information,
            "equal": partial(even_information, weight=chosen.weight, clock=clock),
            "gradnorm": Balanced(("class", "spurious", "information")),
            "gradnorm-pair": Balanced(("class", "information")),
        }.get(chosen.scaling)
    corrected = None if chosen.correction == "none" else Corrected(bias, chosen.correction, clock)
    return Method(model, weigh=corrected, terms=terms, balance=balance)


def progress(step: Int[Tensor, ""], *, delay: int = 0, ramp: int = 1) -> Float[Tensor, ""]:
    """From 0 for the first `delay` steps to 1 after `ramp` more."""
    return ((step - delay + 1) / ramp).clamp(0, 1)


def spurious_loss(seen: Seen, *, weight: float) -> Float[Tensor, ""]:
    """`weight` * sum_i CE_zi, each the mean over the images whose level is known."""
    total = seen.batch.image.new_zeros(())
    for factor, logits in seen.others.items():
        level = seen.batch.confounders[factor]
        loss = F.cross_entropy(logits, level, ignore_index=-1, reduction="sum")
        known = of_all((level >= 0).sum()[None]).float().mean()  # of a process, on average
        total = total + loss / known.clamp_min(1)
    return weight * total


class Balanced(nn.Module):
    """The losses `names` of a method, scaled by `GradNorm` at the last feature maps."""

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.names, self.gradnorm = names, GradNorm(len(names))

    def forward(self, seen: Seen, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        scales = self.gradnorm([losses[name] for name in self.names], seen.features)
        return losses | {n: s * losses[n] for n, s in zip(self.names, scales, strict=True)}


def clip_information(seen: Seen, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The information scaled so that its gradient at f_y does not outgrow that of the class."""
    scale = clip_scale(losses["class"], losses["information"], seen.parts[0])
    return losses | {"information": scale * losses["information"]}


def even_information(
    seen: Seen, losses: dict[str, Tensor], *, weight: float, clock: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """The information scaled so that its gradient at f_y is the share `weight` of the class's."""
    scale = even_scale(losses["class"], losses["information"], seen.parts[0])
    return losses | {"information": weight * clock(seen.step) * scale * losses["information"]}


# Whatever the data. `delay` and `ramp` are shares of all steps.
RECONSTRUCTION = {
    "estimator": "mine",
    "attention": "weights",
    "scaling": "equal",
    "weight": 1.0,
    "spurious": 0.1,
    "critic_steps": 5,
    "hidden": 64,
}
BALANCED = {"estimator": "dcor", "weight": 0.3, "spurious": 0.1, "correction": "both"}
CLOCK = {"delay": 0.6, "ramp": 0.2}


def multitask(model: Classifier, known: Known) -> Method:
    """A head for the label and for every factor, and nothing that keeps their parts apart."""
    return mimm_x(model, weight=0.0)


def mimm_x_reconstructed(model: Classifier, known: Known, **options) -> Method:
    """`mimm_x` as Fay et al. 2025 describe it, a RECONSTRUCTION: MINE, attention over the factors,
    dynamic scaling, and a plain CE_y. What is not published was tuned; `options` replace it."""
    return mimm_x(model, **({"seed": known.seed} | RECONSTRUCTION | timed(known) | options))


def balanced_dcor(model: Classifier, known: Known, **options) -> Method:
    """Ours: distance correlation given the class, and a CE_y corrected for the training set's bias.

    `options` replace those of the recipe.
    """
    bias = Bias.measured(known.data, known.rows, known.factors)
    return mimm_x(model, bias=bias, **({"seed": known.seed} | BALANCED | timed(known) | options))


def timed(known: Known) -> dict[str, int]:
    """`CLOCK` in steps."""
    return {key: max(1, round(share * known.steps)) for key, share in CLOCK.items()}
