"""Tests of the study's outputs."""
