"""The Jacobian's products: against finite differences, torch's own Jacobian, each other, and a memory limit."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

import ssimpert
from ssimpert.errors import InputError
from ssimpert.linearization import FeatureJacobian, Features, deep_features, feature_jacobian, jacobian, operator_norm


def network(activation: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), activation, nn.Conv2d(4, 5, 3, stride=2)).double().eval()
    )


def features_of(activation: nn.Module) -> Features:
    return deep_features(network(activation), ["2", "3"])


@pytest.fixture
def reference() -> Tensor:
    return torch.rand(3, 3, 8, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def direction(reference: Tensor) -> Tensor:
    return torch.randn(reference.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_forward_products_are_finite_differences(reference: Tensor, direction: Tensor) -> None:
    features = features_of(nn.SiLU())
    product = feature_jacobian(features, reference).apply(direction)
    step = 1e-5
    expected = (features(reference + step * direction) - features(reference - step * direction)) / (2 * step)
    torch.testing.assert_close(product, expected.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Hardswish(), nn.ReLU()], ids=lambda a: type(a).__name__)
def test_both_products_are_those_of_torchs_jacobian(
    activation: nn.Module, reference: Tensor, direction: Tensor
) -> None:
    features = features_of(activation)
    operator = feature_jacobian(features, reference)
    forward = operator.apply(direction)
    back = operator.apply_adjoint(forward)
    for k in range(3):
        matrix = torch.func.jacrev(lambda image: features(image[None])[0])(reference[k]).flatten(1)
        torch.testing.assert_close(forward[k], matrix @ direction[k].flatten())
        torch.testing.assert_close(back[k].flatten(), matrix.T @ forward[k])


@pytest.mark.parametrize(("chunk", "limit"), [(1, 1e9), (2, 1e9), (2, 0.0), (3, 0.0)])
def test_chunks_and_memory_limits_change_nothing(
    reference: Tensor, direction: Tensor, chunk: int, limit: float
) -> None:
    features = features_of(nn.ReLU6())
    plain = feature_jacobian(features, reference, chunk=3)
    other = feature_jacobian(features, reference, chunk=chunk, memory_limit=limit)
    values = plain.apply(direction)
    torch.testing.assert_close(other.apply(direction), values)
    torch.testing.assert_close(other.apply_adjoint(values), plain.apply_adjoint(values))
    for wanted in ([2, 0], [1], [0, 1, 2]):
        index = torch.tensor(wanted)
        part = other.select(index, 3)
        assert isinstance(part, FeatureJacobian)
        assert part.layers == features.layers
        torch.testing.assert_close(part.apply(direction[index]), values[index])
        torch.testing.assert_close(part.apply_adjoint(values[index]), plain.apply_adjoint(values)[index])
        again = part.select(torch.tensor([len(wanted) - 1]), len(wanted))
        torch.testing.assert_close(again.apply(direction[index[-1:]]), values[index[-1:]])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_adjoint_is_exact(dtype: torch.dtype, tolerance: float) -> None:
    """Of a small network; to trace a real one takes seconds: test_windows_and_features looks at that Jacobian."""
    model = network(nn.ReLU6()).to(dtype)
    features = deep_features(model, ["2", "3"])
    image = ssimpert.load_image("coffee", size=64).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # torch's own, of how it traces a network, are no news to a user
        operator = feature_jacobian(features, image)
    assert operator.dtype is dtype
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(image.shape, generator=generator, dtype=dtype)
    forward = operator.apply(step)
    other = torch.randn(forward.shape, generator=generator, dtype=dtype)
    left, right = (forward * other).sum(), (step * operator.apply_adjoint(other)).sum()
    assert float((left - right).abs()) <= tolerance * float(forward.norm() * other.norm())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_norm_is_the_largest_singular_value_from_above(reference: Tensor) -> None:
    features = features_of(nn.ReLU())
    estimate = operator_norm(feature_jacobian(features, reference), reference)
    for k in range(3):
        matrix = torch.func.jacrev(lambda image: features(image[None])[0])(reference[k]).flatten(1)
        largest = float(torch.linalg.matrix_norm(matrix, 2))
        assert largest <= float(estimate[k]) <= 1.06 * largest


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["device", "CPU"],
)
def test_a_chunk_without_memory_is_halved_until_it_fits(
    reference: Tensor, monkeypatch: pytest.MonkeyPatch, failure: RuntimeError
) -> None:
    plain = jacobian._kept
    sizes: list[int] = []

    def scarce(most: int):  # type: ignore[no-untyped-def]
        def kept(features: Features, images: Tensor):  # type: ignore[no-untyped-def]
            sizes.append(len(images))
            if len(images) > most:
                raise failure
            return plain(features, images)

        return kept

    features = features_of(nn.ReLU())
    monkeypatch.setattr(jacobian, "_kept", scarce(1))
    assert feature_jacobian(features, reference, chunk=2).apply(reference).shape[0] == 3
    assert sizes == [2, 1, 1, 1]
    assert feature_jacobian(features, reference, chunk=3).apply(reference).shape[0] == 3
    assert sizes[4:] == [3, 2, 1, 1, 1]
    monkeypatch.setattr(jacobian, "_kept", scarce(0))
    with pytest.raises(InputError, match="no memory for the Jacobian of a single image"):
        feature_jacobian(features, reference, chunk=2)


def test_other_errors_of_the_model_are_not_taken_for_a_lack_of_memory(
    reference: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(features: Features, images: Tensor) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(jacobian, "_kept", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        feature_jacobian(features_of(nn.ReLU()), reference, chunk=2)


def test_a_jacobian_of_other_images_is_refused(reference: Tensor) -> None:
    jacobian = feature_jacobian(features_of(nn.ReLU()), reference)
    with pytest.raises(InputError, match="this Jacobian is of 3 images, the batch has 2"):
        jacobian.select(torch.tensor([0]), 2)


def test_bad_input_is_named(reference: Tensor) -> None:
    features = features_of(nn.ReLU())
    with pytest.raises(InputError, match="chunk must be an integer of at least 1"):
        feature_jacobian(features, reference, chunk=0)
    with pytest.raises(InputError, match=r"\(3, 8, 9\)"):
        feature_jacobian(features, reference[0])
    with pytest.raises(InputError, match="no layers"):
        feature_jacobian(deep_features(features.model, []), reference)
    with pytest.raises(InputError, match="image 5 is not"):
        feature_jacobian(features, reference).select(torch.tensor([5]), 3)


class Residual(nn.Module):
    """A residual block as torchvision writes it, with an addition in place between two rectifiers in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.block, self.out = nn.Identity(), nn.Identity()
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5).div_(0.25)
        identity = torch.relu_(self.first(images))
        out = self.second(identity)
        out += identity
        return self.out(torch.relu_(out))


@pytest.mark.parametrize("limit", [1e9, 0.0])
def test_every_product_is_that_of_the_first_call_where_the_network_works_in_place(
    reference: Tensor, direction: Tensor, limit: float
) -> None:
    features = deep_features(Residual(), ["out"], "none")
    operator = feature_jacobian(features, reference, memory_limit=limit)
    step = 1e-6
    expected = (features(reference + step * direction) - features(reference - step * direction)) / (2 * step)
    for _ in range(3):
        forward = operator.apply(direction)
        torch.testing.assert_close(forward, expected.detach(), rtol=1e-4, atol=1e-5)
        back = operator.apply_adjoint(forward)
        torch.testing.assert_close((back * direction).sum(), (forward * forward).sum())
