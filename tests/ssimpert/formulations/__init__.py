"""Tests of formulations."""
