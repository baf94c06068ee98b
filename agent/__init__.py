"""Caddie: an autonomous research loop that measures for itself."""

__version__ = "0.1.0"
