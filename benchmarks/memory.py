"""The peak of this process's memory between two moments (Linux)."""

from pathlib import Path


def start_peak() -> float:
    """Forget the peak so far; gives the memory held now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_since(held: float) -> float:
    """The largest resident memory since `start_peak`, less what was held then, in MiB."""
    return _status("VmHWM") - held


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status does not tell {name}")
