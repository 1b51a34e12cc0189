"""What is compiled, or loaded from numba's cache, is compiled before the method starts, and counts as set-up."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a fresh process: the numbers of compiled signatures when the iterations begin and when all is done, and the times.
SCRIPT = """
import json, sys
import torch
import solvers
from numba.core.dispatcher import Dispatcher
from solvers.methods.time_plan import TimePlan

def signatures():
    modules = [module for name, module in sys.modules.items() if name.startswith("solvers.")]
    values = {id(value): value for module in modules for value in vars(module).values()}
    return sum(len(value.signatures) for value in values.values() if isinstance(value, Dispatcher))

set_up = TimePlan.setup_done
TimePlan.setup_done = lambda plan: (set_up(plan), counts.append(signatures()))
x = torch.rand(1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
g = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
window, tiling = solvers.Window.gaussian(), solvers.Window.uniform(8, stride=8)
rows = []
for method, constraint in (
    ("dual", solvers.WindowSSIM(0.95, window)), ("dual", solvers.ProductSSIM(0.95, window)),
    ("admm", solvers.WindowSSIM(0.95, window)), ("pdhg", solvers.WindowSSIM(0.95, window)),
    ("mean_windows", solvers.MeanSSIM(0.95, window)), ("tiles", solvers.WindowSSIM(0.95, tiling)),
):
    problem = solvers.LinearProblem(g, x, [constraint, solvers.Box()])
    counts = []
    result = solvers.solve(problem, method, {"max_iter": 30, "eps_rel": 1e-9})
    first = counts[-1]
    rows.append((method, first, signatures(), result.setup_time, result.solve_time, result.history[-1].time))
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_no_kernel_is_compiled_after_set_up() -> None:
    answer = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    rows = json.loads(answer.stdout.splitlines()[-1])
    assert len(rows) == 6
    for method, at_start, at_end, setup_time, solve_time, last_check in rows:
        assert at_start == at_end, method
        # The history counts from the call, so set-up is part of its times.
        assert setup_time <= last_check <= setup_time + solve_time, method
    # The first kernels were compiled within the first set-up; loading them from a cache takes long, too.
    assert rows[0][1] > 0
    assert rows[0][3] > 3 * rows[3][3]
