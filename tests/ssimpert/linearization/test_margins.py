"""Margins against their definition, written out with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssimpert.errors import InputError
from ssimpert.linearization import AnyOf, LabelWins, LeastLikely, Targeted, Untargeted
from ssimpert.linearization.margins import Criterion, Membership, margin_for

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 0.0, 4.5], [0.0, 0.0, -1.0]])
LABEL = torch.tensor([1, 0, 0])


def test_untargeted_margin_is_the_best_other_logit_less_the_own() -> None:
    values = LOGITS.numpy()
    expected = [max(np.delete(row, own)) - row[own] for row, own in zip(values, LABEL.tolist(), strict=True)]
    assert Untargeted()(LOGITS, LABEL).tolist() == pytest.approx(expected)


def test_targeted_margin_is_positive_exactly_where_the_target_wins() -> None:
    margin = Targeted(2)(LOGITS, LABEL)
    assert margin.tolist() == pytest.approx([-1.0, -0.5, -1.0])
    won = torch.tensor([[0.0, 1.0, 1.5]])
    assert float(Targeted(2)(won, torch.tensor([0]))) == pytest.approx(0.5)


def test_class_zero_is_a_label_like_any_other() -> None:
    assert float(Untargeted()(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))) == -1.0


def test_target_outside_the_classes_is_refused_with_the_range() -> None:
    with pytest.raises(InputError, match=r"target class 7 does not exist.*0 to 2"):
        Targeted(7).check(3)
    with pytest.raises(InputError, match="at least 2 classes"):
        Untargeted().check(1)


def test_any_of_a_set_is_won_by_its_best_class() -> None:
    margin = AnyOf((0, 2))
    assert margin(LOGITS, LABEL).tolist() == pytest.approx([-1.0, 5.0, 0.0])
    with pytest.raises(InputError, match="class 9 does not exist"):
        AnyOf((0, 9)).check(3)
    with pytest.raises(InputError, match="no decision lies outside"):
        AnyOf((0, 1, 2)).check(3)


def test_least_likely_takes_its_labels_from_the_clean_logits() -> None:
    margin = LeastLikely()
    label = margin.labels(LOGITS)
    assert label.tolist() == [0, 1, 2]
    assert margin(LOGITS, label).tolist() == pytest.approx([-2.0, -5.0, -1.0])
    assert LabelWins()(LOGITS, LABEL).tolist() == pytest.approx([1.0, 0.5, 0.0])
    assert LabelWins().labels(LOGITS).tolist() == LOGITS.argmax(dim=1).tolist()


def test_margins_compose() -> None:
    both, either = Untargeted() & Targeted(2), Untargeted() | Targeted(2)
    one, two = Untargeted()(LOGITS, LABEL), Targeted(2)(LOGITS, LABEL)
    assert both(LOGITS, LABEL).tolist() == pytest.approx(torch.minimum(one, two).tolist())
    assert either(LOGITS, LABEL).tolist() == pytest.approx(torch.maximum(one, two).tolist())
    assert Untargeted().by(1.5)(LOGITS, LABEL).tolist() == pytest.approx((one - 1.5).tolist())
    assert LeastLikely().by(1.0).labels(LOGITS).tolist() == [0, 1, 2]
    both.check(3)


def test_margins_that_can_not_compose_are_refused() -> None:
    with pytest.raises(InputError, match="one takes the labels for targets"):
        (LeastLikely() & Untargeted()).check(3)
    with pytest.raises(InputError, match=r"composes with margins.*got 3"):
        Untargeted() | 3  # type: ignore[operator]
    with pytest.raises(InputError, match="target class 7"):
        (Untargeted() & Targeted(7)).check(3)
    with pytest.raises(InputError, match="finite number of logits, got nan"):
        Untargeted().by(float("nan")).check(3)


class Labelled:
    """A model of three classes that has names for them."""

    name = "toy"
    labels = ("cup", "soup bowl", "tray")


@pytest.mark.parametrize(
    ("named", "numbered"),
    [
        (Targeted("soup bowl"), Targeted(1)),
        (AnyOf(["soup bowl", 0]), AnyOf((1, 0))),
        (Membership(("Tray",)), Membership((2,))),
        (Targeted("cup").by(0.5), Targeted(0).by(0.5)),
        (Untargeted() & (Targeted("tray") | AnyOf(("cup",))), Untargeted() & (Targeted(2) | AnyOf((0,)))),
        (Targeted(2), Targeted(2)),
        (LeastLikely(), LeastLikely()),
        (None, Untargeted()),
    ],
)
def test_names_become_the_numbers_of_the_models_labels(named: Criterion | None, numbered: Criterion) -> None:
    margin = margin_for(named, Labelled())
    assert margin == numbered
    assert torch.equal(margin(LOGITS, LABEL), numbered(LOGITS, LABEL))


def test_a_model_without_labels_knows_no_names() -> None:
    with pytest.raises(InputError, match=r"class 'cup' is a name, but the model has no labels; give its number"):
        margin_for(Targeted("cup"), torch.nn.Identity())
    assert margin_for(Targeted(1), torch.nn.Identity()) == Targeted(1)
    with pytest.raises(InputError, match="only a model with labels knows names"):
        Targeted("cup").check(3)


def test_a_name_that_is_no_label_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown class 'bowl': model 'toy' has 3 classes; did you mean soup bowl"):
        margin_for(AnyOf(["cup", "bowl"]), Labelled())
