"""Empirical risk minimisation: cross-entropy and nothing else."""

from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.methods.bias import Bias, classification_loss


class Erm(nn.Module):
    """The Unrefined model and, trained on for as long as another method, its control.

    With a `bias` and a `correction` (see `classification_loss`) it is reweighted ERM.
    """

    def __init__(self, model: nn.Module, *, bias: Bias | None = None, correction: str = "none"):
        super().__init__()
        self.model, self.bias, self.correction = model, bias, correction

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"class": mean cross-entropy}."""
        _, logits = self.model(batch.image, batch.stem)
        return {"class": classification_loss(logits, batch, self.bias, self.correction)}
