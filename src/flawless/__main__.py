"""`python -m flawless`."""

from flawless.cli.main import main

main()
