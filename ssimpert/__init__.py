"""ssimpert: do imperceptible adversarial perturbations change the regions that a classifier looks at?

Found here, each importing only those named before it: pictures (``data``), classifiers (``models``), the linearised
decision (``linearization``), distances of images (``metrics``), perturbations within a set (``perturbation``), proofs
that no perturbation of a set changes the decision (``verification``),
formulations by name (``formulations``), maps and what is measured of them (``analysis``), studies of many images
(``study``), figures (``report``), and the command line (``cli``).

model  = ssimpert.load_model("efficientnet-lite0")
image  = ssimpert.load_image("chelsea", size=model.input_size)
result = ssimpert.perturb(model, image, constraint=solvers.GlobalSSIM(0.005), recentred=True)
view   = ssimpert.compare(model, image, result)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ssimpert.errors import InputError
from ssimpert.torchvision_compat import mend_torchvision

if TYPE_CHECKING:
    __version__: str

    from ssimpert import analysis as analysis
    from ssimpert import data as data
    from ssimpert import linearization as linearization
    from ssimpert import metrics as metrics
    from ssimpert import models as models
    from ssimpert import perturbation as perturbation
    from ssimpert import report as report
    from ssimpert import study as study
    from ssimpert import verification as verification
    from ssimpert.analysis import Comparison, compare
    from ssimpert.data import composites, load_image, samples, save_array, save_image
    from ssimpert.linearization import (
        AnyOf,
        LabelWins,
        LeastLikely,
        Targeted,
        Untargeted,
        deep_features,
        feature_jacobian,
        linearize,
    )
    from ssimpert.metrics import feature_distance, lpips_distance
    from ssimpert.models import Classifier, OnnxClassifier, load_model, onnx_classifier
    from ssimpert.perturbation import (
        FeatureBallResult,
        MinimalBudgetResult,
        PerceptualBallResult,
        PerturbResult,
        QuantizedResult,
        foolbox_baseline,
        l2_control,
        margin_curve,
        minimal_budget,
        perceptual_ball_constrained,
        perceptual_ball_lbfgs,
        perturb,
        quantize,
    )
    from ssimpert.study import Study
    from ssimpert.verification import CertifiedLevelResult, VerificationResult, certified_level, verify

# Whoever imports torchvision after this package gets one that works; see `ssimpert.torchvision_compat`.
mend_torchvision()

# The package of each name. Names and packages are loaded at first use, so that `import ssimpert` and `ssimpert --help`
# stay quick.
_HOMES = {
    "AnyOf": "linearization",
    "CertifiedLevelResult": "verification",
    "Classifier": "models",
    "Comparison": "analysis",
    "FeatureBallResult": "perturbation",
    "LabelWins": "linearization",
    "LeastLikely": "linearization",
    "MinimalBudgetResult": "perturbation",
    "OnnxClassifier": "models",
    "PerceptualBallResult": "perturbation",
    "PerturbResult": "perturbation",
    "QuantizedResult": "perturbation",
    "Study": "study",
    "Targeted": "linearization",
    "Untargeted": "linearization",
    "VerificationResult": "verification",
    "certified_level": "verification",
    "compare": "analysis",
    "composites": "data",
    "deep_features": "linearization",
    "feature_distance": "metrics",
    "feature_jacobian": "linearization",
    "foolbox_baseline": "perturbation",
    "l2_control": "perturbation",
    "linearize": "linearization",
    "load_image": "data",
    "load_model": "models",
    "lpips_distance": "metrics",
    "margin_curve": "perturbation",
    "minimal_budget": "perturbation",
    "onnx_classifier": "models",
    "perceptual_ball_constrained": "perturbation",
    "perceptual_ball_lbfgs": "perturbation",
    "perturb": "perturbation",
    "quantize": "perturbation",
    "samples": "data",
    "save_array": "data",
    "save_image": "data",
    "verify": "verification",
}

# Packages that are attributes too: after `import ssimpert`, `ssimpert.analysis` needs no import of its own.
_PACKAGES = frozenset(
    {"analysis", "data", "linearization", "metrics", "models", "perturbation", "report", "study", "verification"}
)

__all__ = [
    "AnyOf",
    "CertifiedLevelResult",
    "Classifier",
    "Comparison",
    "FeatureBallResult",
    "InputError",
    "LabelWins",
    "LeastLikely",
    "MinimalBudgetResult",
    "OnnxClassifier",
    "PerceptualBallResult",
    "PerturbResult",
    "QuantizedResult",
    "Study",
    "Targeted",
    "Untargeted",
    "VerificationResult",
    "__version__",
    "certified_level",
    "compare",
    "composites",
    "deep_features",
    "feature_distance",
    "feature_jacobian",
    "foolbox_baseline",
    "l2_control",
    "linearize",
    "load_image",
    "load_model",
    "lpips_distance",
    "margin_curve",
    "minimal_budget",
    "onnx_classifier",
    "perceptual_ball_constrained",
    "perceptual_ball_lbfgs",
    "perturb",
    "quantize",
    "samples",
    "save_array",
    "save_image",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"ssimpert.{name}")
    if name == "__version__":
        globals()[name] = value = _installed_version()
        return value
    if name not in _HOMES:
        raise AttributeError(f"module 'ssimpert' has no attribute {name!r}")
    value = getattr(import_module(f"ssimpert.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def _installed_version() -> str:
    # Imported only now, since it takes a fifth of the time in which the command line starts.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ssimpert")
    except PackageNotFoundError:  # a checkout on the path that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})
