"""The least level of a set that changes the decision, and the margin over levels."""
