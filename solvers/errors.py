"""Errors that a caller can cause. Every message names the offending value and says what would be valid."""


class ProblemError(ValueError):
    """A problem, constraint set or setting that can't be posed as given."""


class MethodError(ValueError):
    """A method that is unknown, not installed, or can't take the problem."""
