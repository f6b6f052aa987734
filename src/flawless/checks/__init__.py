"""Every question Flawless can ask, one subject a file."""
