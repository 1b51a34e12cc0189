"""What verification returns: verdicts with the bounds behind them, and brackets of levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from solvers.constraints import Constraint
from solvers.printing import Printed, Summary, cells, counted, image_numbers, image_shape
from ssimpert.verification.verdict import Verdict


@dataclass(frozen=True, eq=False, repr=False)
class VerificationResult(Printed):
    """What is proved of each image's decision over a set of perturbations. One entry per image.

    The margin to class j is ``f_label - f_j``, on logits. The set is that of ``constraint`` with pixels in [0, 1].
    Bounds hold in exact arithmetic up to the rounding of float64, for the network with the model's weights.

    Attributes:
        verdict: (B,) :class:`Verdict`.
        label: (B,) long, the class that is decided for.
        margin: (B,) float64, the least margin of the clean image.
        class_bound: (B, K) float64: over the whole set, the margin to each class is at least this. Infinite for the
            label itself.
        least_margin_found: (B,) float64, the least margin of any image of the set that was looked at. The least margin
            over the set lies between ``bound`` and this.
        adversarial: (B, C, H, W), for a FALSIFIED image the image that changes the decision, else the clean image.
        adversarial_label: (B,) long, the model's label of ``adversarial``, by a fresh forward pass.
        loose_numbers: (B,) long, how many inputs of nonlinear layers may lie on both sides of a kink.
        seconds: (B,), wall-clock time of each image.
        sentence: (B,), what is known, in words that name the set.
        messages: (B,), why the work ended early, or empty.
        constraint: the set.
        settings: how the result was made, as plain values.
    """

    verdict: tuple[Verdict, ...]
    label: Tensor
    margin: Tensor
    class_bound: Tensor
    least_margin_found: Tensor
    adversarial: Tensor
    adversarial_label: Tensor
    loose_numbers: Tensor
    seconds: tuple[float, ...]
    sentence: tuple[str, ...]
    messages: tuple[str, ...]
    constraint: Constraint
    settings: dict[str, Any]

    @property
    def bound(self) -> Tensor:
        """(B,) float64, the least of ``class_bound``; the decision is verified where it is positive."""
        return self.class_bound.amin(dim=1)

    @property
    def tightest_class(self) -> Tensor:
        """(B,) long, the class of the least bound."""
        return self.class_bound.argmin(dim=1)

    @property
    def verified(self) -> Tensor:
        """(B,) bool, where the verdict is VERIFIED."""
        return torch.tensor([verdict is Verdict.VERIFIED for verdict in self.verdict])

    def summary(self) -> Summary:
        """What the result prints: the verdicts and bounds of the first images."""
        images = len(self.verdict)
        verified = int(self.verified.sum())
        return Summary(
            f"VerificationResult: {verified} of {counted(images)} verified, {image_shape(self.adversarial)}",
            {
                "image": image_numbers(images),
                "verdict": cells(tuple(verdict.value for verdict in self.verdict)),
                "label": cells(self.label),
                "margin": cells(self.margin, ".3g"),
                "bound": cells(self.bound, ".3g"),
                "tightest class": cells(self.tightest_class),
                "found": cells(self.least_margin_found, ".3g"),
                "seconds": cells(self.seconds, ".2g"),
                "message": cells(self.messages),
            },
            images,
            notes=self.sentence[:1] if images == 1 else (),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The numbers, one dictionary of plain values per image, ready for a table or JSON."""
        return [
            {
                "image": k,
                "verdict": self.verdict[k].value,
                "label": int(self.label[k]),
                "margin": float(self.margin[k]),
                "bound": float(self.bound[k]),
                "tightest_class": int(self.tightest_class[k]),
                "least_margin_found": float(self.least_margin_found[k]),
                "adversarial_label": int(self.adversarial_label[k]),
                "loose_numbers": int(self.loose_numbers[k]),
                "seconds": self.seconds[k],
                "sentence": self.sentence[k],
                "message": self.messages[k],
            }
            for k in range(len(self.verdict))
        ]


@dataclass(frozen=True, eq=False, repr=False)
class CertifiedLevelResult(Printed):
    """Brackets around the least level at which a decision can change. One entry per image.

    Attributes:
        level: (B,) float64, the largest level that was verified: no image of the set of this level changes the
            decision. 0 where none was.
        unverified_level: (B,) float64, the least level that was tried and not verified; infinite where none was.
        found_level: (B,) float64, the least level at which a perturbation is known to change the decision; NaN where
            none is known.
        rounds: (B,) long, levels tried.
        seconds: (B,), wall-clock time of each image.
        sentence: (B,), what is proved, in words that name the set.
        unit: what the level is, in words.
        settings: how the result was made, as plain values.
    """

    level: Tensor
    unverified_level: Tensor
    found_level: Tensor
    rounds: Tensor
    seconds: tuple[float, ...]
    sentence: tuple[str, ...]
    unit: str
    settings: dict[str, Any]

    @property
    def ratio(self) -> Tensor:
        """(B,), the found level divided by the certified one: how wide the bracket is. NaN or infinite without both."""
        return self.found_level / self.level

    def summary(self) -> Summary:
        """What the result prints: the brackets of the first images."""
        images = len(self.level)
        return Summary(
            f"CertifiedLevelResult: {counted(images)}, level: {self.unit}",
            {
                "image": image_numbers(images),
                "certified": cells(self.level, ".4g"),
                "unverified": cells(self.unverified_level, ".4g"),
                "found": cells(self.found_level, ".4g"),
                "rounds": cells(self.rounds),
                "seconds": cells(self.seconds, ".2g"),
            },
            images,
            notes=self.sentence[:1] if images == 1 else (),
        )

    def rows(self) -> list[dict[str, Any]]:
        """The numbers, one dictionary of plain values per image, ready for a table or JSON."""
        return [
            {
                "image": k,
                "level": float(self.level[k]),
                "unverified_level": float(self.unverified_level[k]),
                "found_level": float(self.found_level[k]),
                "rounds": int(self.rounds[k]),
                "seconds": self.seconds[k],
                "sentence": self.sentence[k],
            }
            for k in range(len(self.level))
        ]
