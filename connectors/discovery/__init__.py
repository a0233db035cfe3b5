"""Finds the cameras of a network; see :mod:`connectors.discovery.base` for how it is cut."""
