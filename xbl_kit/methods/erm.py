"""Empirical risk minimisation: cross-entropy and nothing else."""

import torch.nn.functional as F
from torch import Tensor, nn

from xbl_kit.batch import Batch


class Erm(nn.Module):
    """The Unrefined model and, trained on for as long as another method, its control."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """{"class": mean cross-entropy}."""
        _, logits = self.model(batch.image, batch.stem)
        return {"class": F.cross_entropy(logits, batch.label)}
