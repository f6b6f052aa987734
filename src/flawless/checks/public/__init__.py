"""The public name and address, asked from outside."""
