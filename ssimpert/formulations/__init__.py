"""Formulations by name: which options each takes, and from plain options to a constraint set or a perceptual ball.

The command line and studies build their formulations here. Nothing here loads torch before a set is built, so that
``ssimpert --help`` stays quick.
"""
