"""MIMM-X: one encoder, a part of its features a task, and little information between the parts."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from xbl_kit.batch import Batch
from xbl_kit.losses import Clubs, Mine, distance_correlation, hsic
from xbl_kit.losses.balance import AttentionWeighter, GradNorm, clip_scale
from xbl_kit.methods.bias import Bias, classification_loss
from xbl_kit.models import MultiHead

MEASURES = {"dcor": distance_correlation, "hsic": hsic}
SCALINGS = ("none", "clip", "gradnorm")


class MimmX(nn.Module):
    """CE_y + `spurious` * sum_i CE_zi + `weight` * scale * sum_i a_i I(f_y; f_zi).

    MIMM (Fay et al. 2023) and the two-factor thesis: parts, heads, MINE over all pairs of a batch,
    "clip" `scaling`, z-z pairs (`between`). MIMM-X (Fay et al. 2025) adds attention weights a_i and
    "gradnorm"; both are a RECONSTRUCTION, no formula is public. Ours, each to be switched off:
    `conditional` I(.|y), which alone can reach 0 where y and z are correlated; `correction` of
    CE_y (`classification_loss`); `memory`, the past samples that join a batch where MI is
    measured; `delay` and `ramp`, encoder steps before MI and prior count, and until in full;
    `estimator` "dcor", "hsic" or "club". weight=0 is the multitask baseline. `turns`:
    `critic_steps` of the statistics network, or CLUB's q, on the memory, then one of both players
    on the batch.
    """

    def __init__(
        self,
        model: MultiHead,
        *,
        weight: float = 0.3,
        spurious: float = 1.0,
        estimator: str = "mine",
        conditional: bool = True,
        between: bool = False,
        attention: bool = False,
        scaling: str = "none",
        bias: Bias | None = None,
        correction: str = "none",
        memory: int = 192,
        critic_steps: int = 1,
        delay: int = 0,
        ramp: int = 1,
        hidden: int = 32,
        seed: int = 0,
    ):
        super().__init__()
        for name, value, known in (
            ("estimator", estimator, ("mine", "club", *MEASURES)),
            ("scaling", scaling, SCALINGS),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}")
        self.model, self.bias, self.correction = model, bias, correction
        self.weight, self.spurious, self.conditional = weight, spurious, conditional
        self.estimator, self.scaling, self.delay, self.ramp = estimator, scaling, delay, ramp
        n = len(model.factors)
        self.firsts = n if between else 1  # the parts that are measured with all after them
        self.pairs = [(i, j) for i in range(self.firsts) for j in range(i + 1, n + 1)]
        used = weight > 0 and n > 0
        classes = model.n_classes if conditional else 1
        generator = torch.Generator().manual_seed(seed)
        self.critic = self.attention = self.gradnorm = None
        if used and estimator == "mine":
            self.critic = Mine(
                model.size,
                self.pairs,
                hidden=hidden,
                layers=2,
                joint=2,
                classes=classes,
                generator=generator,
            )
        if used and estimator == "club":
            with torch.random.fork_rng(devices=()):
                torch.manual_seed(seed)
                self.critic = Clubs(model.size, self.pairs, classes=classes, hidden=hidden)
        if used and attention:
            self.attention = AttentionWeighter(model.size, generator=generator)
        if used and scaling == "gradnorm":
            self.gradnorm = GradNorm(3)
        size = memory if used else 0
        self.register_buffer("past", torch.zeros(size, n + 1, model.size))
        self.register_buffer("past_label", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))
        steps = critic_steps if self.critic is not None else 0
        self.turns = ("critic",) * steps + ("model",)

    def forward(self, batch: Batch, turn: str = "model") -> dict[str, Tensor]:
        """{"class", "spurious", "information"}; in the critic's turn {"critic"}."""
        if turn == "critic":
            return {"critic": self._critic_loss(*self._rehearsal(batch))}
        features = self.model.encode(batch.image, batch.stem)
        parts, logits = self.model.tasks(features)
        losses = {
            "class": classification_loss(
                logits[0], batch, self.bias, self.correction, strength=self._progress()
            ),
            "spurious": self.spurious * self._spurious(logits[1:], batch),
        }
        if self.weight and self.pairs:
            losses["information"] = self._information(parts, batch.label, losses["class"])
        if self.gradnorm is not None:
            scales = self.gradnorm(list(losses.values()), features)
            losses = {k: s * loss for s, (k, loss) in zip(scales, losses.items(), strict=True)}
        if self.training:
            self.step += 1
        return losses

    def _spurious(self, logits: list[Tensor], batch: Batch) -> Tensor:
        """Sum of the factors' mean cross-entropies, each over the images whose level is known."""
        total = batch.image.new_zeros(())
        for factor, each in zip(self.model.factors, logits, strict=True):
            level = batch.confounders[factor]
            loss = F.cross_entropy(each, level, ignore_index=-1, reduction="sum")
            total = total + loss / (level >= 0).sum().clamp_min(1)
        return total

    def _rehearsal(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Parts (m b d) and labels for the statistics network: the memory, else the batch."""
        if self.held > 1:
            return self.past[: self.held].transpose(0, 1), self.past_label[: self.held]
        with torch.no_grad():
            parts, _ = self.model.tasks(self.model.encode(batch.image, batch.stem))
        return torch.stack(parts).float(), batch.label

    def _critic_loss(self, parts: Float[Tensor, "m b d"], label: Tensor) -> Tensor:
        """-MI, or -log q for CLUB, whose q fits the features and not what raises the bound."""
        shared = self._measured(parts, label)
        if self.estimator == "mine":
            return -shared @ self._attended(parts)
        likelihood = self.critic.log_likelihood(parts, label if self.conditional else None)
        return -likelihood.sum() - shared.detach() @ self._attended(parts)

    def _information(self, parts: list[Tensor], label: Tensor, class_loss: Tensor) -> Tensor:
        """The weighted MI of batch and memory; its gradient goes to the batch's parts alone."""
        now = torch.stack(parts).float()
        if not self._progress():  # the delay: what would count for nothing is not worked out
            self._remember(now.detach(), label)
            return 0 * now.sum()
        with torch.enable_grad():
            held = self.held if self.training else 0
            past = self.past[:held].transpose(0, 1)
            seen = torch.cat([now.detach(), past], dim=1).requires_grad_()
            each = self._measured(seen, torch.cat([label, self.past_label[:held]]))
            total = each @ self._attended(seen).detach()
            (gradient,) = torch.autograd.grad(total, seen)
        # A sample counts as much as in a batch without memory, over which MI is a mean, too.
        push = (now * gradient[:, : len(label)]).sum() * (seen.shape[1] / len(label))
        strength = self.weight * self._progress()
        if self.scaling == "clip":
            strength = strength * clip_scale(class_loss, strength * push, parts[0])
        self._remember(now.detach(), label)
        return strength * (total.detach() + push - push.detach())

    def _measured(self, parts: Float[Tensor, "m b d"], label: Tensor) -> Float[Tensor, " p"]:
        """What each pair of parts shares, a class at a time where conditional."""
        if self.critic is not None:
            return self.critic(parts, label if self.conditional else None)
        measure, total = MEASURES[self.estimator], parts.new_zeros(len(self.pairs))
        groups = label.unique() if self.conditional else label[:1]
        for y in groups:
            own = parts[:, label == y] if self.conditional else parts
            if own.shape[1] >= 4:
                values = [measure(own[i : i + 1], own[i + 1 :]) for i in range(self.firsts)]
                total = total + torch.cat(values) * own.shape[1] / parts.shape[1]
        return total + 0 * parts.sum()

    def _attended(self, parts: Float[Tensor, "m b d"]) -> Float[Tensor, " p"]:
        """The pairs' weights: all alike, or the y-z pairs' share divided by attention."""
        n = len(self.model.factors)
        weight = parts.new_full((len(self.pairs),), 1 / len(self.pairs))
        if self.attention is None:
            return weight
        return torch.cat([weight[:n].sum() * self.attention(parts[0], parts[1:]), weight[n:]])

    def _remember(self, parts: Float[Tensor, "m b d"], label: Tensor) -> None:
        size = len(self.past) if self.training else 0
        if not size:
            return
        self.past = torch.cat([parts.transpose(0, 1), self.past])[:size]
        self.past_label = torch.cat([label, self.past_label])[:size]
        self.held = (self.held + len(label)).clamp(max=size)

    def _progress(self) -> Tensor:
        """From 0 during `delay` to 1 after a further `ramp` steps of the encoder."""
        return ((self.step - self.delay + 1) / self.ramp).clamp(0, 1)
