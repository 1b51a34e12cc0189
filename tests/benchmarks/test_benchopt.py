"""A solver and a data set, added to the benchopt benchmark as benchmarks/README.md says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.script_options import ROOT

RUN = """
import sys
from benchopt import run_benchmark
from benchopt.plotting import plot_benchmark
from matplotlib.figure import Figure

file = run_benchmark(
    sys.argv[1], solver_names=["tiles[tolerance=0.01]", "scaled-gradient"], max_runs=1, n_repetitions=1,
    plot_result=False, display=False,
)
Figure.savefig = lambda self, path: None  # the names of the files matter here
plot_benchmark(file, sys.argv[1], kinds=["bar_chart"], html=False, display=False)
print(file)
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("benchopt") is None, reason="needs the extra 'bench'")
def test_a_solver_and_a_data_set_are_added_as_the_page_says(tmp_path: Path) -> None:
    folder = tmp_path / "benchmark"
    (folder / "solvers").mkdir(parents=True)
    (folder / "datasets").mkdir()
    shutil.copy(ROOT / "benchmarks" / "objective.py", folder)
    shutil.copytree(ROOT / "benchmarks" / "benchmark_utils", folder / "benchmark_utils")
    shutil.copy(ROOT / "benchmarks" / "solvers" / "tiles.py", folder / "solvers")
    page = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    files = re.findall(r"The file `((?:solvers|datasets)/\w+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["solvers/scaled_gradient.py", "datasets/noise.py"]
    for name, text in files:
        (folder / name).write_text(text, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(done.stdout.splitlines()[-1])
    assert len(table) == 4  # two solvers on two thresholds
    assert set(table["data_name"] if "data_name" in table else table["dataset_name"]) == {
        "noise[seed=0,size=16,threshold=0p9]",
        "noise[seed=0,size=16,threshold=0p95]",
    }
    gaps = table.set_index("solver_name")["objective_rel_gap"]
    assert (gaps.filter(like="tiles") <= 0.01).all()
    assert (gaps.filter(like="scaled-gradient") > 0.01).all()
    # No plot is written over another one.
    saved = re.findall(r"as: (.*\.pdf)", done.stdout)
    assert len(saved) == len(set(saved)) >= 4
