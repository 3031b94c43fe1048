"""Methods that shape the explanations: by one good and one bad exemplar, or by a region."""

from jaxtyping import Float
from torch import Tensor, nn

from xbl_kit.batch import region_pixels
from xbl_kit.data.faults import one_of
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import grad_cam, image_times_cam, input_gradient, log_odds
from xbl_kit.losses import exemplar_triplet_loss, right_reasons_loss
from xbl_kit.methods.base import Known, Method, Seen
from xbl_kit.models import Classifier

SCORES = {
    "log-odds": log_odds,
    "centred": lambda logits: logits - logits.mean(dim=1, keepdim=True),
    "logit": lambda logits: logits,
}


class ExemplarTriplet(nn.Module):
    """`weight` * triplet loss on x * GradCAM(x) against the exemplars' (eq. 4-8); see `exbl`."""

    def __init__(self, exemplar: Exemplar, weight: float, margin: float, score: str, **view: str):
        super().__init__()
        one_of("score", score, SCORES)
        self.weight, self.margin, self.score, self.view = weight, margin, SCORES[score], view
        for name, side in (("good", exemplar.good), ("bad", exemplar.bad)):
            product = image_times_cam(side.image, side.cam, **view)
            self.register_buffer(name, product, persistent=False)

    def forward(self, seen: Seen) -> Float[Tensor, ""]:
        score = self.score(seen.logits)
        cam = grad_cam(seen.features, score, seen.batch.label, create_graph=True)
        product = image_times_cam(seen.batch.image, cam.float(), **self.view)
        triplet = exemplar_triplet_loss(product, self.good, self.bad, margin=self.margin)
        return self.weight * triplet


def exbl(
    model: Classifier,
    exemplar: Exemplar,
    *,
    weight: float = 1.0,
    margin: float = 1.0,
    resolution: str = "input",
    by: str = "max",
    score: str = "log-odds",
) -> Method:
    """Cross-entropy + `weight` * triplet loss on x * GradCAM(x) (Hagos et al. 2023, eq. 1, 4-8).

    The map is that of each image's own label. What the paper leaves open are options. `resolution`
    and `by`: see `explain.image_times_cam`; each map is divided by its maximum, so that a margin
    of 1 fits the distances. `score`: "log-odds" explains the softmax output (`explain.log_odds`),
    which sets a class against its closest rival; "centred" the logit less the mean of all logits,
    which sets it against every other class; "logit" what goes into the softmax. The published
    script has raw 7x7 maps, on which the triplet stays at the margin with next to no gradient.

    Raises ValueError for another `score`, `resolution` or `by`.
    """
    term = ExemplarTriplet(exemplar, weight, margin, score, resolution=resolution, by=by)
    return Method(model, terms={"explanation": term})


def exbl_picked(model: Classifier, known: Known, **options) -> Method:
    """`exbl` with the exemplar that was picked."""
    return exbl(model, known.exemplar, **options)


def rrr(model: Classifier, known: Known, *, weight: float = 1e-3) -> Method:
    """Cross-entropy + `weight` * sum of (input gradient outside the region)^2, "right reasons".

    Ross et al. 2017 (eq. 3 in Hagos et al. 2023), with `known.region`, a mask or a box, as what
    the answer may depend on. The paper sets the weight so that both losses are of one size: on the
    phantom the sum is about 2000 after plain training, cross-entropy at chance log 4.
    """

    def wrong_reasons(seen: Seen) -> Float[Tensor, ""]:
        gradient = input_gradient(seen.batch.image, seen.logits, create_graph=True)
        outside = ~region_pixels(seen.batch, known.region)
        return weight * right_reasons_loss(gradient, outside)

    return Method(model, terms={"explanation": wrong_reasons}, by_pixel=True)
