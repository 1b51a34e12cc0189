"""The perceptual ball: penalised as in the paper, and constrained with certificates."""

from ssimpert.perturbation.perceptual_ball.constrained import perceptual_ball_constrained
from ssimpert.perturbation.perceptual_ball.penalised import perceptual_ball_lbfgs

__all__ = ["perceptual_ball_constrained", "perceptual_ball_lbfgs"]
