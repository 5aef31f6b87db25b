"""The name of the machine's processor, for reports."""

import platform
from pathlib import Path


def processor_name() -> str:
    """Returns the name of the CPU. `platform.processor` is empty or generic on Linux."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
