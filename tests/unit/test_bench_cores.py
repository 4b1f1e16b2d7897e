import os

import pytest

from limbeck.runtimes import _cores
from limbeck.runtimes._cores import cpu_has_bf16, physical_cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Four cores with two threads each, no quota; returns a function that puts a file into it."""
    monkeypatch.delenv("LIMBECK_CORES", raising=False)
    monkeypatch.setattr(_cores, "CPUS", tmp_path / "cpus")
    monkeypatch.setattr(_cores, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(_cores, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    def put(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    for cpu in range(8):
        put(f"cpus/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    return put


def test_threads_of_one_core_count_once(machine):
    assert physical_cores() == 4


def test_affinity_leaves_fewer(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 5})
    assert physical_cores() == 2


@pytest.mark.parametrize(("given", "cores"), [("3", 3), ("99", 4), ("0", 1), ("", 4), ("some", 4)])
def test_one_of_several_processes_has_its_share(machine, monkeypatch, given, cores):
    monkeypatch.setenv("LIMBECK_CORES", given)
    assert physical_cores() == cores


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 4), ("300000 100000", 3), ("50000 100000", 1)])
def test_the_cgroups_quota_holds(machine, limit, cores):
    machine("cgroup/cpu.max", limit)
    assert physical_cores() == cores


def test_the_tightest_quota_above_holds(machine):
    machine("membership", "0::/docker/abc\n")
    machine("cgroup/docker/cpu.max", "200000 100000\n")
    machine("cgroup/docker/abc/cpu.max", "max 100000\n")
    assert physical_cores() == 2


def test_old_cgroups_are_read_too(machine):
    machine("membership", "5:cpuacct,cpu:/job\n3:memory:/elsewhere\n")
    machine("cgroup/cpu/job/cpu.cfs_quota_us", "300000\n")
    machine("cgroup/cpu/job/cpu.cfs_period_us", "100000\n")
    assert physical_cores() == 3


def test_without_topology_every_cpu_is_a_core(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(_cores, "CPUS", tmp_path / "nowhere")
    assert physical_cores() == 8


@pytest.mark.parametrize(
    ("flags", "has"), [("avx2 avx512_bf16", True), ("amx_bf16 amx_tile", True), ("avx512f", False)]
)
def test_bfloat16_is_told_by_the_cpus_flags(machine, tmp_path, monkeypatch, flags, has):
    monkeypatch.setattr(_cores, "CPUINFO", tmp_path / "cpuinfo")
    assert not cpu_has_bf16()
    machine("cpuinfo", f"flags : fpu {flags}\n")
    assert cpu_has_bf16() == has
