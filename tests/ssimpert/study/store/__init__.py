"""Tests of the study's store."""
