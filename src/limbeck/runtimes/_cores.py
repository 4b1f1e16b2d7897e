"""What this machine's CPU offers: how many cores this process may really use, and whether they know bfloat16."""

import os
from pathlib import Path

import psutil

__all__ = ["cores_given", "cpu_has_bf16", "physical_cores"]

CPUS = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")


def physical_cores() -> int:
    """Physical cores within this process' affinity mask, its cgroup's CPU quota and ``LIMBECK_CORES``; at least 1."""
    return max(1, min(_cores_in_affinity(), _cores_in_quota(), cores_given()))


def cores_given() -> int:
    """Cores that ``LIMBECK_CORES`` leaves to this process, one of several; very many where it says nothing."""
    given = os.environ.get("LIMBECK_CORES", "")
    return max(1, int(given)) if given.isdecimal() else _UNLIMITED


def cpu_has_bf16() -> bool:
    """Whether this CPU computes in bfloat16 (AVX512-BF16 or AMX), so that ``bf16`` is worth a row."""
    return CPUINFO.is_file() and any(flag in CPUINFO.read_text() for flag in ("avx512_bf16", "amx_bf16"))


def _cores_in_affinity() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return psutil.cpu_count(logical=False) or 1
    return len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})


def _siblings(cpu: int) -> str:
    """Name of the core that a logical CPU is a part of: its hyper-threads share it."""
    listing = CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
    return listing.read_text().strip() if listing.is_file() else str(cpu)


def _cores_in_quota() -> int:
    """Whole cores the tightest cgroup above this process grants it (version 2 or 1); very many where none does."""
    return min((_quota(folder) for folder in _cgroups()), default=_UNLIMITED)


_UNLIMITED = 1 << 16


def _cgroups() -> list[Path]:
    """This process' cgroup and those above it; within a container the mount's root is its own."""
    folders = {CGROUP, CGROUP / "cpu"}
    if MEMBERSHIP.is_file():
        for line in MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or "cpu" in controllers.split(","):
                root = CGROUP if controllers == "" else CGROUP / "cpu"
                here = root / path.lstrip("/")
                folders |= {here, *here.parents} - set(CGROUP.parents)
    return sorted(folders)


def _quota(folder: Path) -> int:
    together, quota, period = folder / "cpu.max", folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    if together.is_file():
        limit, _, per = together.read_text().strip().partition(" ")
    elif quota.is_file() and period.is_file():
        limit, per = quota.read_text().strip(), period.read_text().strip()
    else:
        return _UNLIMITED
    return _UNLIMITED if limit in ("max", "-1") else max(1, int(limit) // int(per))
