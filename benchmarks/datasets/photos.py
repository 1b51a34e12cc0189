"""benchopt data set: a sample photo, and the gradient of the embedded classifier's margin at this photo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmark_utils.file_names import WithoutDots
from benchopt import BaseDataset

import solvers

# benchopt runs this file by itself, so the folder of `benchmarks` must be on the path.
sys.path.append(str(Path(__file__).resolve().parents[2]))


class Dataset(WithoutDots, BaseDataset):
    """Central crops of photos, each with a window, a threshold and a luminance bound."""

    name = "photos"
    parameters = {  # noqa: RUF012 (benchopt's own form)
        "photo, size": [("chelsea", 32), ("coffee", 32), ("astronaut", 32)],
        "window, stride, border": [("uniform", 1, "full"), ("uniform", 4, "full"), ("gaussian", 1, "valid")],
        "threshold": [0.95],
        "luminance": [1e-3],
    }

    def get_data(self) -> dict[str, Any]:
        """The problem, in float64, for the objective."""
        from benchmarks.real_problems import linear_problem

        if self.window == "uniform":
            window = solvers.Window.uniform(7, stride=self.stride, border=self.border)
        else:
            window = solvers.Window.gaussian(1.5, 11, stride=self.stride, border=self.border)
        sets = [solvers.WindowSSIM(self.threshold, window, luminance=self.luminance), solvers.Box(0.0, 1.0)]
        return {"problem": linear_problem(self.photo, sets, size=self.size)}
