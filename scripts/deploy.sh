#!/bin/sh
# Deploys this checkout, from whichever folder it is called in.
cd "$(dirname "$0")/.." || exit 1
exec python3 bootstrap.py deploy "$@"
