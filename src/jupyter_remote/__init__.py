"""One person's remotely reachable Jupyter, as a Debian package."""

__version__ = "0.1.0"
