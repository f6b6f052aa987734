"""The vocabulary: values and Protocols, no I/O."""
