"""The engine of the study: every stage is a function with a command line."""

__version__ = "0.1.0"
