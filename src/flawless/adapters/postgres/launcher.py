"""Start the postmaster as nobody's child: fork, leave the session, drop root, become PostgreSQL; print its pid.

Run by path with the standard library alone, so that whoever deploys is never the parent who would have to reap it.
Arguments: uid and gid to become (`-` twice to stay), then the argv. Standard error is the postmaster's first log.
"""

import os
import sys


def main(uid: str, gid: str, *argv: str) -> None:
    if pid := os.fork():
        sys.stdout.write(f"{pid}\n")
        return
    os.setsid()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    os.execv(argv[0], argv)  # noqa: S606 - an argv of our own, no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
