"""Methods that shape the explanations: by one good and one bad exemplar, or by a region."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from xbl_kit.batch import Batch, region_pixels
from xbl_kit.data.faults import one_of
from xbl_kit.exemplar import Exemplar, Explained
from xbl_kit.explain import grad_cam, image_times_cam, input_gradient, log_odds, normalise, upsample
from xbl_kit.losses import exemplar_triplet_loss, mask_loss, right_reasons_loss
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.models import Classifier

SCORES = {
    "log-odds": log_odds,
    "centred": lambda logits: logits - logits.mean(dim=1, keepdim=True),
    "logit": lambda logits: logits,
}


class ExemplarTriplet(nn.Module):
    """`weight` * triplet loss on x * GradCAM(x) against the exemplars' (eq. 4-8); see `exbl`."""

    def __init__(
        self,
        exemplar: Exemplar,
        weight: float,
        margin: float,
        score: str,
        classes: Sequence[str],
        **view: str,
    ):
        super().__init__()
        one_of("score", score, SCORES)
        self.weight, self.margin, self.score, self.view = weight, margin, SCORES[score], view
        for name, side in (("good", exemplar.good), ("bad", exemplar.bad)):
            product = image_times_cam(side.image, side.cam, **view)
            self.register_buffer(name, product, persistent=False)
        sides = exemplar.good, exemplar.bad
        self.own = [tuple(own_or_all(side, name) for side in sides) for name in classes]

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        score, label = self.score(seen.logits), seen.batch.label
        cam = grad_cam(seen.features, score, label, create_graph=True)
        product = image_times_cam(seen.batch.image, cam, **self.view)
        compared = [(label == y, *own) for y, own in enumerate(self.own)]
        how = {"margin": self.margin, "reduction": "none"}
        each = [
            exemplar_triplet_loss(product[rows], self.good[good], self.bad[bad], **how)
            for rows, good, bad in compared or [(slice(None),) * 3]
        ]
        return self.weight * torch.cat(each).mean()


def own_or_all(side: Explained, name: str) -> list[int]:
    """Which exemplars the images of a class are compared with: its own, or where none is, all."""
    return [i for i, label in enumerate(side.label) if label == name] or [*range(len(side.label))]


def exbl(
    model: Classifier,
    exemplar: Exemplar,
    *,
    weight: float = 1.0,
    margin: float = 1.0,
    resolution: str = "input",
    by: str = "max",
    score: str = "log-odds",
    classes: Sequence[str] = (),
) -> Method:
    """Cross-entropy + `weight` * triplet loss on x * GradCAM(x) (Hagos et al. 2023, eq. 1, 4-8).

    The map is that of each image's own label. What the paper leaves open are options. `resolution`
    and `by`: see `explain.image_times_cam`; each map is divided by its maximum, so that a margin
    of 1 fits the distances. `score`: "log-odds" explains the softmax output (`explain.log_odds`),
    which sets a class against its closest rival; "centred" the logit less the mean of all logits,
    which sets it against every other class; "logit" what goes into the softmax. The published
    script has raw 7x7 maps, on which the triplet stays at the margin with next to no gradient.
    All images share the exemplars; given the data's `classes`, those of a class have their own.

    Raises ValueError for another `score`, `resolution` or `by`.
    """
    term = ExemplarTriplet(exemplar, weight, margin, score, classes, resolution=resolution, by=by)
    return Method(model, terms={"explanation": term})


def exbl_picked(model: Classifier, known: Known, *, per_class: bool = False, **options) -> Method:
    """`exbl` with the exemplars that were picked; `per_class` each class has its own."""
    classes = known.data.classes if per_class else ()
    return exbl(model, known.exemplar, classes=classes, **options)


def rrr(model: Classifier, known: Known, *, weight: float = 1e-3) -> Method:
    """Cross-entropy + `weight` * sum of (input gradient outside the region)^2, "right reasons".

    Ross et al. 2017 (eq. 3 in Hagos et al. 2023), with `known.region`, a mask or a box, as what
    the answer may depend on. The paper sets the weight so that both losses are of one size: on the
    phantom the sum is about 2000 after plain training, cross-entropy at chance log 4.
    """

    def wrong_reasons(seen: Seen) -> Float[Tensor, ""]:
        gradient = input_gradient(seen.batch.image, seen.logits, create_graph=True)
        return weight * right_reasons_loss(gradient, outside(seen.batch, known))

    return Method(model, terms={"explanation": wrong_reasons}, by_pixel=True)


def outside(batch: Batch, known: Known) -> Bool[Tensor, "b h w"]:
    """The pixels that the answer may not depend on."""
    return ~region_pixels(batch, known.region)


def shown(seen: Seen, score: str) -> Float[Tensor, "b h w"]:
    """The differentiable Grad-CAM map of each image's own label, divided by its maximum."""
    scores = SCORES[one_of("score", score, SCORES)](seen.logits)
    cam = grad_cam(seen.features, scores, seen.batch.label, create_graph=True)
    return normalise(cam.float())


def rrr_g(
    model: Classifier, known: Known, *, weight: float = 10.0, score: str = "log-odds"
) -> Method:
    """Cross-entropy + `weight` * mean of GradCAM(x) outside the region, "RRR-G".

    Eq. 2 in Hagos et al. 2023, the mask penalty of Schramowski et al. 2020. Ours: the map is that
    of eXBL (`score`: see `exbl`), divided by its maximum and resized to the mask, where it is
    published at the features' resolution and squared; the mean stands for the sum over pixels.
    """

    def wrong_map(seen: Seen) -> Float[Tensor, ""]:
        wrong = outside(seen.batch, known)
        return weight * mask_loss(upsample(shown(seen, score), tuple(wrong.shape[1:])), wrong)

    return Method(model, terms={"explanation": wrong_map})


def hint(
    model: Classifier, known: Known, *, weight: float = 10.0, score: str = "log-odds"
) -> Method:
    """Cross-entropy + `weight` * mean over pairs of cells of max(a_q - a_p, 0), s_p > s_q.

    HINT (Selvaraju et al. 2019, section 4.3): what a person ranks higher had better matter more.
    Adapted: a person's importance s of a cell of the last feature maps, there of a proposal, is
    the share of it that lies in the region; the network's, a, is Grad-CAM divided by its maximum
    (`score`: see `exbl`), for under mean pooling the paper's gradient without the features is the
    same for all cells; the mean over the pairs that s ranks stands for the sum over those that a
    ranks otherwise.
    """

    def misranked(seen: Seen) -> Float[Tensor, ""]:
        cam = shown(seen, score)
        inside = region_pixels(seen.batch, known.region).float()
        person = F.adaptive_avg_pool2d(inside[:, None], cam.shape[1:])
        s, a = person.flatten(1), cam.flatten(1)
        ranked = s[:, :, None] > s[:, None, :]
        over = (a[:, None, :] - a[:, :, None]).relu() * ranked
        return weight * (over.sum(dim=(1, 2)) / ranked.sum(dim=(1, 2)).clamp_min(1)).mean()

    return Method(model, terms={"explanation": misranked})


def rbr(model: Classifier, known: Known, *, weight: float = 1e-3) -> Method:
    """Cross-entropy + `weight` * sum of (d/dx of |dCE/dW|^2 / 2, outside the region)^2.

    "Right for better reasons" (Shao et al. 2021): what a pixel does to the influence of its image,
    dCE/dW' H^-1 d^2CE/dx dW, is to vanish outside. Ours, to be cheap: H is the identity, as in
    public reimplementations, and W the last layer alone, where |dCE/dW|^2 of an image is
    |p - onehot(y)|^2 (1 + |f|^2). Those reimplementations multiply it by RRR's gradient; we do not.
    """

    def influence(seen: Seen) -> Float[Tensor, ""]:
        error = seen.logits.softmax(dim=1) - F.one_hot(seen.batch.label, seen.logits.shape[1])
        size = 1 + seen.parts[0].flatten(1).square().sum(dim=1)
        own = 0.5 * (error.square().sum(dim=1) * size).sum()
        (gradient,) = torch.autograd.grad(own, seen.batch.image, create_graph=True)
        return weight * right_reasons_loss(gradient[:, 0], outside(seen.batch, known))

    return Method(model, terms={"explanation": influence}, by_pixel=True)


def caipi(model: Classifier, known: Known, *, copies: int = 1, fill: str = "noise") -> Method:
    """ERM on the images and, of each, `copies` counterexamples: other pixels outside the region.

    CAIPI (Teso and Kersting 2019, "to counterexamples"; Schramowski et al. 2020): what does not
    matter is replaced and the label kept, by uniform "noise" or by that "image" of another class.
    Each image always has the same counterexamples, as if they were added to the training set. Ours:
    every image is explained, and not those that an oracle is asked about, round by round.
    """
    fills = {"noise": noise, "image": another}
    filled = fills[one_of("fill", fill, fills)](known, copies)

    def change(batch: Batch) -> Batch:
        n = len(batch.index)
        again = known.data[batch.index.repeat(1 + copies)].to(batch.image.device)
        number = torch.arange(1 + copies).repeat_interleave(n)
        other = filled(again.index.cpu(), number).to(again.image)
        image = torch.where(outside(again, known)[:, None], other, again.image)
        return again._replace(image=torch.cat([batch.image, image[n:]]), stem=None)

    return Method(model, change=change if copies else None)


def noise(known: Known, copies: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Uniform noise (m, 1, h, w) for so many rows and numbers of a copy, always the same."""
    shape, n = known.data.images.shape[1:], len(known.data)

    def drawn(seed: int) -> Tensor:
        return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))

    return lambda rows, number: torch.stack(
        [drawn(seed) for seed in (known.seed + n * number + rows).tolist()]
    )


def another(known: Known, copies: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A training image of another class for each of so many rows and numbers of a copy."""
    generator, label = torch.Generator().manual_seed(known.seed), known.data.label
    partner = torch.zeros(1 + copies, len(label), dtype=torch.int64)
    for y in label.unique():
        own, others = label == y, known.rows[label[known.rows] != y]
        drawn = torch.randint(len(others), (1 + copies, int(own.sum())), generator=generator)
        partner[:, own] = others[drawn]
    return lambda rows, number: known.data[partner[number, rows]].image
