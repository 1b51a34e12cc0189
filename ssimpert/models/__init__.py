"""Image classifiers: loading them, naming their layers and classes, and passing images through them.

Found here: classifiers by name (``catalog``, ``embedded``, ``weights``), the frozen :class:`Classifier` with its layers
and labels (``classifier``, ``layers``, ``labels``), hooks on layers (``layer_outputs``), where the layers' outputs have
a feature map (``layouts``) and how this is found out (``channel_axes``, ``layout_candidates``, ``layout_search``),
every call of a user's model (``forward_passes``), what all public functions that take a model have in common
(``entry_points``), copies that pass images faster (``forward_copy``, ``onnx_classifier``), and mixed precision
(``mixed_precision``).
"""

from ssimpert.models.catalog import ModelInfo, load_model, models
from ssimpert.models.classifier import Classifier
from ssimpert.models.layouts import MapLayout
from ssimpert.models.onnx_classifier import OnnxClassifier, onnx_classifier

__all__ = ["Classifier", "MapLayout", "ModelInfo", "OnnxClassifier", "load_model", "models", "onnx_classifier"]
