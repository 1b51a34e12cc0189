"""A network as an ONNX Runtime session for single images: the export, and what it must be kept from doing meanwhile."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from ssimpert.errors import InputError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
ERRORS_ONLY = 3
_TALKATIVE = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def onnx_session(network: nn.Module, example: Tensor, threads: int) -> Any:
    """``onnxruntime.InferenceSession`` of ``network`` on images of the shape of ``example``, one at a time.

    One image, since a pass of more takes longer for each (docs/notes/forward-copies.md). Prints nothing, writes no
    file, and leaves the random state as it is.

    Args:
        network: images (1, C, H, W) -> logits (1, K), in evaluation mode.
        example: (1, C, H, W), float32, on the CPU.
        threads: those that a run may use, at least 1.

    Raises:
        InputError: the packages are missing or don't load.
        Exception: whatever else the exporter or the runtime raises.
    """
    runtime = _runtime()
    with _quiet(), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        # Captured here, since the exporter by itself would go on to other ways of capturing, one of which writes files
        # and lets a branch that depends on the image through.
        program = torch.export.export(network, (example.clone(),), strict=False)
        exported = torch.onnx.export(program, (), None, dynamo=True, verbose=False)
        assert exported is not None, "dynamo=True gives a program"
        content = exported.model_proto.SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runtime() -> Any:
    """onnxruntime, with its reports of use switched off.

    Raises:
        InputError: it, or what the export needs, isn't installed or does not load.
    """
    if any(find_spec(package) is None for package in PACKAGES):
        raise InputError(
            f"an ONNX copy needs {', '.join(PACKAGES[:-1])} and {PACKAGES[-1]}; "
            "install them with pip install 'ssimpert[onnx]'"
        )
    # From 1.29 on it reports its use over the network, and numbers the machine, unless this is set before it is first
    # imported. The extra asks for an older one, but another may be there.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        for package in PACKAGES:
            import_module(package)
    except ImportError as error:
        raise InputError(f"{error.name or 'onnxruntime'} does not load: {error}") from error
    runtime = import_module("onnxruntime")
    runtime.disable_telemetry_events()  # on Windows every version has events
    return runtime


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter warns of, logs and prints (where it fails, the whole graph): what goes wrong is raised
    as an exception, and the copy is checked."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
