"""Do perturbations agree with class activation maps? The tables of docs/results.md.

Run with `python examples/results` (hours on two cores: see the page for the time that it took); everything is kept in
`--folder`, from where a second run goes on. `--images 6 --models efficientnet-lite0` shows that it runs. With
`--jobs 2` the two models are done side by side. With `--forward onnx` (extra onnx) what needs no gradient takes little
more than half the time; values differ by rounding.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from functools import partial
from pathlib import Path

from one_model import tables_of
from report import fill


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="efficientnet-lite0,efficientnet-lite1", help="comma-separated names")
    parser.add_argument("--images", type=int, default=40, help="composites for each model (default 40)")
    parser.add_argument("--folder", type=Path, default=Path("out/results"), help="for maps and tables")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    parser.add_argument("--forward", choices=("torch", "onnx"), default="torch", help="for passes without gradients")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time, a thread each (default 1)")
    options = parser.parse_args()
    for name in ("images", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, not {getattr(options, name)}")
    return options


def claim(folder: Path, images: int, forward: str) -> None:
    """Keep the settings beside the maps: what was made with others must not be gone on with.

    Raises:
        SystemExit: the folder holds maps of other settings.
    """
    path, settings = folder / "settings.json", {"images": images, "forward": forward}
    if path.exists() and (kept := json.loads(path.read_text(encoding="utf-8"))) != settings:
        raise SystemExit(f"{folder} holds maps made with {kept}, not {settings}: give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def main() -> None:
    options = arguments()
    claim(options.folder, options.images, options.forward)
    one = partial(tables_of, images=options.images, forward=options.forward, folder=options.folder)
    names = options.models.split(",")
    # Spawned, not forked: a fork would take over torch's threads.
    with multiprocessing.get_context("spawn").Pool(min(options.jobs, len(names))) as pool:
        for found in pool.imap(one, names):
            if options.write is not None:
                fill(options.write, found)
            for title, text in found.items():
                print(f"\n{title}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
