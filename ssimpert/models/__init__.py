"""Image classifiers: loading, preprocessing and naming of layers and classes."""

from ssimpert.models.catalog import ModelInfo, load_model, models
from ssimpert.models.classifier import Classifier
from ssimpert.models.onnx_classifier import OnnxClassifier, onnx_classifier

__all__ = ["Classifier", "ModelInfo", "OnnxClassifier", "load_model", "models", "onnx_classifier"]
