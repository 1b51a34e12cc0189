"""Image classifiers: loading, preprocessing and naming of layers and classes."""

from ssimpert.models.catalog import ModelInfo, load_model, models
from ssimpert.models.classifier import Classifier

__all__ = ["Classifier", "ModelInfo", "load_model", "models"]
