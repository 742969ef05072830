"""The version of inf2kit, which the build reads."""

__version__ = "0.1.0"
