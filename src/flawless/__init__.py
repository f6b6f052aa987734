"""One command takes a web stack from a checkout to verified live, or says exactly why not."""

__version__ = "0.1.0"
