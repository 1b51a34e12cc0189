"""What was proved, in words: the images of the set, and what a proof over them says of an index."""

from __future__ import annotations

import solvers
from solvers.constraints import Constraint
from ssimpert.verification.index_sets import index_held
from ssimpert.verification.verdict import Verdict


def images_of(constraint: Constraint) -> str:
    """The images of the set, as in "no ... changes the decision"."""
    if isinstance(constraint, solvers.Intersection):
        return " that is also an ".join(images_of(member) for member in constraint.sets)
    if isinstance(constraint, solvers.ProductSSIM):
        return f"image with SSIM >= {constraint.threshold:.6g} in every {_window(constraint.window)}"
    if isinstance(constraint, solvers.MeanSSIM):
        kept = "" if constraint.luminance is None else f" and 1 - S1 <= {constraint.beta:.3g} in each"
        return f"image with mean SSIM >= {constraint.threshold:.6g} over {_window(constraint.window)}s{kept}"
    if isinstance(constraint, solvers.WindowSSIM):
        terms = f"S1 >= {1 - constraint.beta:.6g} and S2 >= {1 - constraint.alpha:.6g}"
        return f"image with {terms} in every {_window(constraint.window)}"
    if isinstance(constraint, solvers.GlobalSSIM):
        return f"image whose distance d2 is at most {constraint.distance:.6g}, with its mean kept"
    if isinstance(constraint, solvers.LpBall):
        return f"image within an l{constraint.p:g} distance of {_number(constraint.radius)}"
    if isinstance(constraint, solvers.FeatureBall):
        return f"image whose linearised feature distance is at most {_number(constraint.radius)}"
    return f"image of the set {constraint.kind}"


def caveat_of(constraint: Constraint) -> str:
    """What a proof over the set does not say, or says beside; empty where the set needs no explanation."""
    members = constraint.sets if isinstance(constraint, solvers.Intersection) else (constraint,)
    notes = []
    for member in members:
        if isinstance(member, solvers.WindowSSIM):
            held = index_held(member)
            threshold = member.threshold
            if held <= threshold:
                continue
            notes.append(
                f"the set holds every image with SSIM >= {held:.6g} in every window, but not every image with SSIM >= "
                f"{threshold:.6g}"
            )
        elif isinstance(member, solvers.FeatureBall):
            notes.append("features are linearised at the clean image, and nothing is proved of the features themselves")
    return "; ".join(notes)


def sentence(verdict: Verdict, constraint: Constraint, support: solvers.Support | None) -> str:
    """One sentence that names the set, and says what is known of its images."""
    images = images_of(constraint)
    if support is not None:
        images += ", changed only where the support allows"
    if verdict is Verdict.VERIFIED:
        caveat = caveat_of(constraint)
        return f"No {images} changes the decision, up to float64 rounding{f' ({caveat})' if caveat else ''}."
    if verdict is Verdict.FALSIFIED:
        return f"An {images} changes the decision."
    return f"Whether any {images} changes the decision is not known: no proof and no such image was found."


def _window(window: solvers.Window) -> str:
    """The window, in words."""
    weights = "" if window.sigma is None else f"Gaussian (sigma {window.sigma:g}) "
    border = "" if window.border == "full" else ", whole windows only"
    uncovered = ", pixels in no window kept" if window.border == "valid" and window.stride > 1 else ""
    return f"{weights}{window.size}x{window.size} window (stride {window.stride}{border}{uncovered})"


def _number(radius: object) -> str:
    """A radius, or that each image has its own."""
    return f"{radius:.6g}" if isinstance(radius, float) else "its radius"
