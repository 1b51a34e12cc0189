"""The file that ``ssimpert study init`` writes: a valid study, in which every key is explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING

from ssimpert.data.datasets.catalog import DATASETS, OptionDescription, dataset_options

_HEAD = """\
# A study: every model with every formulation at every level, on every image.
# `ssimpert study run {file}` computes what is missing, and nothing twice.
# Lines such as "# key = value" show a key with its default, or with an example. Remove the "# " to use the key.

[study]
name = {name}
seed = 0                          # everything random derives from this number and the unit
repeats = 1                       # how often each unit is computed, with a seed each

# Where the images come from. Repeat the section for several data sets.
[[data]]
kind = "composites"               # {kinds}
n = 24
# name = "composites"             # what tables call the data; needed for two data sets of one kind

# A classifier. Repeat the section for several.
[[model]]
name = "efficientnet-lite0"       # or "timm:NAME", "torchvision:NAME"; `ssimpert models` lists the names
# weights = "random"              # or a file with a state dict, relative to this file; default: the published weights
# alias = "lite0"                 # what tables call the model; needed for two models of one name
# labels = ["cat", "dog"]         # the names of the classes, for a model that has not ImageNet's
# input_size = 224                # side of the images in pixels; default: the model's own

# A constraint set with its levels: each level is a column of the study. Repeat the section for several sets.
[[formulation]]
name = "windows"                  # what tables call it; a new name changes no result
constraint = "window-ssim"        # global-ssim, window-ssim, product-ssim, mean-ssim, l2, linf, l1, feature-ball,
                                  # perceptual-ball, perceptual-ball-constrained
threshold = [0.99, 0.95]          # distance of global-ssim; radius of l2, linf, l1 and balls of features; gamma of
                                  # perceptual-ball; a number such as 0.01, or a text such as "2/255"
window = {{ size = 7, stride = 1, border = "full" }}   # sigma = 1.5 for Gaussian weights
# luminance = 0.001               # bound on 1 - S1; or "split", "preserve"
# engine = "projected_gradient"   # or sequential_convex, frank_wolfe, recentred; a list makes a formulation of each
# recentred = false               # true is short for engine = "recentred"
# steps = 20                      # most steps for each image
# budget = "fixed"                # "minimal" looks for the least level that changes the decision, from one level on
# margin = "untargeted"           # or "least-likely"
# margin_by = 0.0                 # how many logits the margin must exceed
# target = "soup bowl"            # aim at this class, by its name or number
# stop_at_success = true          # false spends all steps on the largest margin
# shrink = true                   # draw a success back to the smallest share that still succeeds
# quantize = false                # move the result onto 8-bit pixels
# method = "auto"                 # the solver of each convex step; `ssimpert methods` lists the names
# eps_rel = 0.001                 # its certified relative gap
# max_iter = 2000                 # its most iterations
# any_size = false                # let a CVXPY method try a problem beyond its size limit

# The method of Pochimireddy, Siripuram, Channappayya (arXiv 2106.12731), as released.
[[formulation]]
name = "released SSIM ball"
constraint = "global-ssim"
distance = [0.005]
engine = "recentred"
faithful = true                   # what the released code does, faults included

# The least level that changes the decision, for each image.
[[formulation]]
name = "least l2 ball"
constraint = "l2"
radius = 0.5                      # tried first
budget = "minimal"
# rounds = 20                     # most levels tried for each image
# tolerance = 0.005               # relative width of the bracket at which an image is done
# candidates = 10                 # aim at the nearest of so many classes

# The perceptual ball of Elliott, Law, Russell (CVPR 2021).
# [[formulation]]
# name = "perceptual ball"
# constraint = "perceptual-ball"
# gamma = [1e4]                   # the weight of the features' change
# layers = ["blocks.2"]           # default: the model's own choice; "none" for no feature at all
# pixel_weight = 1.0
# wanted_margin = -2.0
# margin_term = "equality"        # or "hinge"
# lower_gamma = true              # try a smaller weight where the label does not change

# The same features within a radius. A feature-ball takes radius, layers, normalization and l2_radius.
# [[formulation]]
# name = "feature distance"
# constraint = "perceptual-ball-constrained"
# radius = [0.3]
# normalization = "unit-channel"  # or "mse", "none"
# step_norm = 0.25                # the l2 norm of the first step at most

# A baseline of foolbox (extra "baselines"): ddn, fmn, l2-pgd, linf-pgd.
# [[attack]]
# name = "ddn"
# passes = [200, 1000]            # gradients taken of each image; each number is a column
# radius = 0.5                    # for l2-pgd and linf-pgd

[analysis]
maps = ["rms", "ssim", "contribution"]   # of the perturbation
cam = "grad_cam"                  # the class activation map to compare with
metrics = ["agreement"]           # agreement, pointing, localization, insertion-deletion; [] for none
controls = ["l2", "gradient-magnitude", "local-std", "local-variance", "gaussian"]
# attributions = ["gradient"]     # further maps to compare
# layer = "conv_head"             # of the class activation map; default: the model's own
# shifts = 200                    # circular shifts for the p-values; 0 for none
# sanity = false                  # compare the maps of the model with random weights, too

[out]
arrays = "none"                   # "delta" keeps each perturbation in float16, "images" the perturbed pixels
"""


def study_template(name: str = "formulations", file: str = "study.toml") -> str:
    """The text of a study file that explains every key, and is itself a valid study.

    Args:
        name: of the study.
        file: what the text calls the file.
    """
    text = _HEAD.format(name=json.dumps(name, ensure_ascii=False), file=file, kinds=", ".join(DATASETS))
    kinds = "\n".join(_kind_lines(kind, dataset_options(kind)) for kind in DATASETS)
    return f"{text}\n# The kinds of data, and the keys that each of them takes:\n{kinds}\n"


def _kind_lines(kind: str, options: Mapping[str, OptionDescription]) -> str:
    lines = [f"#   {kind}"]
    for name, description in options.items():
        need = "must be given" if description.default is MISSING else f"default {description.default!r}"
        explanation = f": {description.doc}" if description.doc else ""
        lines.append(f"#       {name} ({need}){explanation}")
    return "\n".join(lines)
