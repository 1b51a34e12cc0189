"""A network as an ONNX Runtime session for single images. The export must print nothing and send nothing."""

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

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LOG_ERRORS_ONLY = 3
_LOGGERS_OF_EXPORT = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def onnx_session(network: nn.Module, example: Tensor, threads: int) -> Any:
    """An ``onnxruntime.InferenceSession`` of ``network`` for single images of the shape of ``example``.

    The session takes single images, since a pass of several images takes longer for each of them
    (docs/notes/forward-copies.md). The export prints nothing, writes no file, and leaves the random state as it is.

    Args:
        network: images (1, C, H, W) -> logits (1, K), in evaluation mode.
        example: (1, C, H, W), float32, on the CPU.
        threads: how many threads a run may use, at least 1.

    Raises:
        InputError: packages are missing or don't load.
        Exception: any other error of the exporter or the runtime.
    """
    runtime = _runtime()
    with _quiet(), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.no_grad():
        # The program is captured here. The exporter would try other ways of capturing, one of which writes files and
        # accepts a branch that depends on the image.
        program = torch.export.export(network, (example.clone(),), strict=False)
        exported = torch.onnx.export(program, (), None, dynamo=True, verbose=False)
        assert exported is not None, "dynamo=True gives a program"
        content = exported.model_proto.SerializeToString()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS_ONLY
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runtime() -> Any:
    """The package onnxruntime, with its reports of use switched off.

    Raises:
        InputError: onnxruntime, or a package that the export needs, isn't installed or does not load.
    """
    if any(find_spec(package) is None for package in ONNX_PACKAGES):
        raise InputError(
            f"an ONNX copy needs {', '.join(ONNX_PACKAGES[:-1])} and {ONNX_PACKAGES[-1]}; "
            "install them with pip install 'ssimpert[onnx]'"
        )
    # From 1.29 on onnxruntime reports its use over the network, with a number for the machine, unless this variable is
    # set before the first import. The extra asks for an older version, but a newer one may be installed.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        for package in ONNX_PACKAGES:
            import_module(package)
    except ImportError as error:
        raise InputError(f"{error.name or 'onnxruntime'} does not load: {error}") from error
    runtime = import_module("onnxruntime")
    runtime.disable_telemetry_events()  # on Windows every version reports events
    return runtime


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what the exporter warns of, logs and prints (on failure it prints the whole graph).

    Nothing is lost: failures are raised as exceptions, and the copy is checked afterwards.
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS_OF_EXPORT]
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
