"""Do perturbations agree with class activation maps? The tables of docs/results.md.

Run with `python examples/results` (hours on two cores: see the page for the time that it took); everything is kept in
`--folder`, from where a second run goes on. `--images 6 --models efficientnet-lite0` shows that it runs. With
`--forward onnx` (extra onnx) what needs no gradient takes little more than half the time; values differ by
rounding.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from maps import composites_of, make_maps
from measures import measure
from methods import ALL, BENCHED, FULL
from report import fill, tables

import ssimpert


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default="efficientnet-lite0,efficientnet-lite1", help="comma-separated names")
    parser.add_argument("--images", type=int, default=40, help="composites for each model (default 40)")
    parser.add_argument("--folder", type=Path, default=Path("out/results"), help="for maps and tables")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables into this page")
    parser.add_argument("--forward", choices=("torch", "onnx"), default="torch", help="for passes without gradients")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    for name in options.models.split(","):
        model = ssimpert.load_model(name, device="cpu")
        chosen = composites_of(model, options.images)
        folder = options.folder / name
        forward = model if options.forward == "torch" else ssimpert.onnx_classifier(model, chosen.images[:1])
        make_maps(model, forward, chosen.images, folder, list(ALL))
        table = measure(model, forward, chosen, folder, list(ALL), benched=[*FULL, *BENCHED])
        found = {f"{name}: {title}": text for title, text in tables(table, folder).items()}
        if options.write is not None:
            fill(options.write, found)
        for title, text in found.items():
            print(f"\n{title}\n\n{text}", flush=True)


if __name__ == "__main__":
    main()
