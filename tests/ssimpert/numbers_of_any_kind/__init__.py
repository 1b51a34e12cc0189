"""Numbers and lists of numpy and torch count like Python's in every option of every public function.

Each function is called with plain values, and with the same values as numpy and torch have them. Results must be equal,
and must hold no scalar of numpy: those would not be written as JSON. A new public option gets a plain value in the file
of its package.
"""
