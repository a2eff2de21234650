import threading
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.memory import MemoryBudget, available_memory, limits_of


def test_threads_hold_no_more_than_there_is():
    budget, held, most, lock = MemoryBudget(100), [0], [0], threading.Lock()

    def work(needed):
        with budget.taking(needed):
            with lock:
                held[0] += min(needed, 100)
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.005)
            with lock:
                held[0] -= min(needed, 100)

    threads = [threading.Thread(target=work, args=(needed,)) for needed in [30, 50, 40, 500, 20, 10] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most[0] == 100


def test_the_limits_of_a_job_within_its_machine_count(tmp_path):
    (tmp_path / "cgroup").write_text("0::/slurm/job_7/step_0\n")
    (tmp_path / "slurm" / "job_7" / "step_0").mkdir(parents=True)
    (tmp_path / "slurm" / "job_7" / "step_0" / "memory.max").write_text("max\n")
    (tmp_path / "slurm" / "job_7" / "memory.max").write_text(f"{300 * 2**20}\n")
    limits = limits_of(tmp_path / "cgroup", tmp_path)
    assert [path.parent.name for path in limits] == ["step_0", "job_7", "slurm", tmp_path.name]
    assert available_memory(limits) == 300
    assert limits_of(tmp_path / "none", tmp_path) == []


def test_a_thread_that_holds_a_part_does_not_wait_for_more():
    budget = MemoryBudget(100)
    with budget.taking(80), budget.taking(80):
        pass
    with pytest.raises(ValueError, match="x"), budget.taking(80):
        raise ValueError("x")
    with budget.taking(100):
        pass


def test_more_than_there_is_names_the_file():
    with pytest.raises(
        DataError, match=r"a\.png: 60000 x 50000 pixels .* need 9\.0 GB to decode, .* take 1\.0 GB here"
    ):
        MemoryBudget(10**9).check(9 * 10**9, Path("a.png"), (60_000, 50_000), "to decode")
