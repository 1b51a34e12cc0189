"""Saliency maps of a perturbation, and the maps that serve as controls."""
