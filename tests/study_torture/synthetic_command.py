"""The command that is tortured with ``--synthetic``: a study whose units take 0.05 s and need no model.

Arguments: the folder, then the scheduler's address if there is one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.ssimpert.study.running.synthetic import SyntheticEvaluator
from tests.ssimpert.study.running.synthetic_run import run

CELLS, ITEMS, BATCH, SECONDS = 4, 60, 2, 0.05

if __name__ == "__main__":
    state = run(
        Path(sys.argv[1]),
        SyntheticEvaluator(seconds=SECONDS),
        cells=CELLS,
        items=ITEMS,
        batch_size=BATCH,
        scheduler=sys.argv[2] if len(sys.argv) > 2 else None,
    )
    sys.exit(state.counts.is_partial)
