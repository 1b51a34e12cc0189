"""The perceptual ball: penalised as in the paper, and constrained with certificates."""
