"""Write ``solvers/conformance/photos.npz``: crops of the sample photos with the classifier's own gradients.

The conformance suite needs real gradients, since on noise every method looks better than it is. ``solvers`` can't
compute a gradient, since it has no model. Run this script in the repository's root; with ``--record`` it replaces the
shipped file::

    python -m benchmarks.make_photos --record
"""

from __future__ import annotations

import numpy as np
import torch

import ssimpert
from benchmarks.script_options import ROOT, output_path, script_parser

SIDE = 224
# Name: (sample, side of the crop, top, left). The crops were chosen for different content. "dark" is the astronaut's
# lower right corner; 84% (32) and 62% (64) of its pixels are exactly 0.
CROPS = {
    "chelsea-32": ("chelsea", 32, 64, 80),
    "coffee-32": ("coffee", 32, 80, 80),
    "camera-32": ("camera", 32, 64, 64),
    "rocket-32": ("rocket", 32, 48, 96),
    "dark-32": ("astronaut", 32, 192, 144),
    "chelsea-64": ("chelsea", 64, 64, 80),
    "coffee-64": ("coffee", 64, 96, 80),
    "dark-64": ("astronaut", 64, 160, 128),
}
TARGET = ROOT / "solvers" / "conformance" / "photos.npz"


def main(*, record: bool = False) -> None:
    """Write the file, and print how many crops it has."""
    model = ssimpert.load_model("efficientnet-lite0", device="cpu")
    crops: dict[str, np.ndarray] = {}
    for name, (sample, size, top, left) in CROPS.items():
        image = ssimpert.load_image(sample, size=SIDE)
        with torch.no_grad():
            label = model(image).argmax(dim=1)
        gradient = ssimpert.linearize(model, image, label, ssimpert.Untargeted()).gradient
        area = (0, slice(None), slice(top, top + size), slice(left, left + size))
        # Sample photos have 8-bit pixels, so nothing is lost. Gradients stay in float32.
        levels = (image[area] * 255).round()
        if not torch.allclose(levels / 255, image[area], atol=1e-6, rtol=0):
            raise SystemExit(f"{sample} is not an 8-bit photo; store it as float32")
        crops[f"{name}/photo"] = levels.to(torch.uint8).numpy()
        crops[f"{name}/gradient"] = gradient[area].to(torch.float32).numpy()
    target = output_path(TARGET, record=record)
    np.savez_compressed(target, **crops)
    print(f"{target.relative_to(ROOT)}: {len(CROPS)} crops, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(record=script_parser(__doc__, records=True).parse_args().record)
