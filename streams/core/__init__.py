"""The pure core: what is decided, as functions of their arguments alone.

Nothing here reads a clock, a file, the environment or a source of randomness; time is an argument.
"""
