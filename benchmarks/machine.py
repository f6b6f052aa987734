"""What the figures were taken on: enough to judge them, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any


def described() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "processor": _processor(),
        "python": platform.python_version(),
    }


def contention() -> float:
    """How many times longer work takes than the processor time it needs, because others work too; 1 when none does."""
    began, used = time.perf_counter(), time.process_time()
    while time.process_time() - used < 0.1:
        pass
    return max(1.0, (time.perf_counter() - began) / (time.process_time() - used))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""
