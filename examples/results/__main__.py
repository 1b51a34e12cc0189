"""Do perturbations agree with class activation maps? The tables of docs/results.md.

Run with `python -m examples.results`; it takes hours on two cores (the page says how many). All maps and tables are
kept in `--folder`, so that a second run can continue. `--images 6 --models efficientnet-lite0` is a quick trial. With
`--jobs 2` both models run at the same time. With `--forward onnx` (extra onnx) the methods that need no gradient take
little more than half the time; their values differ by rounding.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import partial
from pathlib import Path

from benchmarks.script_options import script_parser
from examples.results.one_model import tables_of
from examples.results.report import fill


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = script_parser(__doc__)
    parser.add_argument("--models", default="efficientnet-lite0,efficientnet-lite1", help="comma-separated names")
    parser.add_argument("--images", type=int, default=40, help="the number of composites for each model (default 40)")
    parser.add_argument("--folder", type=Path, default=Path("out/results"), help="where maps and tables are kept")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    parser.add_argument(
        "--forward", choices=("torch", "onnx"), default="torch", help="what passes images where no gradient is needed"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="the number of processes, a model and a thread each (default 1)"
    )
    options = parser.parse_args()
    for name in ("images", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    return options


def claim(folder: Path, images: int, forward: str) -> None:
    """Keep the settings beside the maps. A run must not continue from maps that were made with other settings.

    Raises:
        SystemExit: the folder holds maps that were made with other settings.
    """
    path, settings = folder / "settings.json", {"images": images, "forward": forward}
    if path.exists() and (earlier := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise SystemExit(f"{folder} holds maps made with {earlier}, not {settings}: give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def main() -> None:
    """Make the tables of all models, print them, and put them into the page where this is asked for."""
    options = arguments()
    claim(options.folder, options.images, options.forward)
    tables_of_model = partial(tables_of, images=options.images, forward=options.forward, folder=options.folder)
    names = options.models.split(",")
    # Processes are spawned, not forked, since a fork would take over torch's threads.
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(names))) as pool:
        for tables in pool.imap(tables_of_model, names):
            if options.write is not None:
                fill(options.write, tables)
            for title, text in tables.items():
                print(f"\n{title}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
