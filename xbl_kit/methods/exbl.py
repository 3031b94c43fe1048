"""eXBL: learning from one good and one bad explanation."""

import torch.nn.functional as F
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.exemplar import Exemplar
from xbl_kit.explain import grad_cam, image_times_cam, log_odds
from xbl_kit.losses import exemplar_triplet_loss

SCORES = {
    "log-odds": log_odds,
    "centred": lambda logits: logits - logits.mean(dim=1, keepdim=True),
    "logit": lambda logits: logits,
}


class ExBL(nn.Module):
    """Cross-entropy + `weight` * triplet loss on x * GradCAM(x) (Hagos et al. 2023, eq. 1, 4-8).

    The map is that of each image's own label. What the paper leaves open are options. `resolution`
    and `by`: see `explain.image_times_cam`; each map is divided by its maximum, so that a margin
    of 1 fits the distances. `score`: "log-odds" explains the softmax output (`explain.log_odds`),
    which sets a class against its closest rival; "centred" the logit less the mean of all logits,
    which sets it against every other class; "logit" what goes into the softmax. The published
    script has raw 7x7 maps, on which the triplet stays at the margin with next to no gradient.

    Raises ValueError for another `score`, `resolution` or `by`.
    """

    def __init__(
        self,
        model: nn.Module,
        exemplar: Exemplar,
        *,
        weight: float = 1.0,
        margin: float = 1.0,
        resolution: str = "input",
        by: str = "max",
        score: str = "log-odds",
    ):
        super().__init__()
        if score not in SCORES:
            raise ValueError(f"score={score!r}: expected one of {', '.join(SCORES)}")
        self.model, self.weight, self.margin, self.score = model, weight, margin, score
        self.view = {"resolution": resolution, "by": by}
        for name, side in (("good", exemplar.good), ("bad", exemplar.bad)):
            product = image_times_cam(side.image, side.cam, **self.view)
            self.register_buffer(name, product, persistent=False)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"class": mean cross-entropy, "explanation": weighted triplet loss}."""
        features, logits = self.model(batch.image, batch.stem)
        score = SCORES[self.score](logits)
        cam = grad_cam(features, score, batch.label, create_graph=True)
        product = image_times_cam(batch.image, cam.float(), **self.view)
        triplet = exemplar_triplet_loss(product, self.good, self.bad, margin=self.margin)
        return {
            "class": F.cross_entropy(logits, batch.label),
            "explanation": self.weight * triplet,
        }
