"""Tests of the study's running."""
