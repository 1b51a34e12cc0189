"""Kills the processes of a real study at random moments, and compares what comes out (``make study-torture``)."""
