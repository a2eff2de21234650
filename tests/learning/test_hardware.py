import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipeline.errors import DataError
from pipeline.learning.hardware import choose_precision, choose_workers, reserve_gpus

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "expected"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "fp32")]
)
def test_a_cpu_computes_in_bf16_where_it_need_not_emulate_it(monkeypatch, amx, avx512_bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == "fp32"


def test_trainings_at_once_take_different_gpus(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware._reserved", [])
    taken = []
    for _ in range(3):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-7")  # each a process of its own
        taken.append(reserve_gpus(1, tmp_path))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == taken[-1][0]
    assert taken == [["0"], ["1"], ["GPU-7"]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,GPU-7")
    assert reserve_gpus(1, tmp_path) == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,GPU-7"


def test_gpus_are_shared_with_other_users(tmp_path, monkeypatch):
    """Whose locks can be read, and not be written to."""
    monkeypatch.setattr("pipeline.learning.hardware._reserved", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (tmp_path / "pipeline-gpu-0.lock").touch()
    opened = Path.open

    def of_another_user(path, mode="r", **options):
        if mode != "r" and path.exists():
            raise PermissionError(path)
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", of_another_user)
    assert reserve_gpus(2, tmp_path) == ["0", "1"]


def test_loaders_have_the_cores_that_this_process_may_use(monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware.available_cores", lambda: 3)
    assert choose_workers("auto", torch.device("cuda")) == 3
    assert choose_workers("auto", CPU) == 0
    assert choose_workers(5, CPU) == 5


def test_loaders_need_room_to_hand_batches_over(tmp_path, monkeypatch):
    """Else a training ends in a bus error, or in a traceback where the place cannot be written to."""
    monkeypatch.setattr("pipeline.learning.hardware.available_cores", lambda: 8)
    cuda = torch.device("cuda")
    assert choose_workers("auto", cuda, 10**6) == 8
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(f_bavail=64 * 1024, f_frsize=1024))  # docker's
    assert choose_workers("auto", cuda, 9 * 10**6) == 2
    assert choose_workers(2, cuda, 9 * 10**6) == 2
    with pytest.raises(DataError, match=r"4 processes .* need 108.0 MB of /dev/shm, which has 67.1; set training.w"):
        choose_workers(4, cuda, 9 * 10**6)
    monkeypatch.setattr("pipeline.learning.hardware.SHARED_MEMORY", tmp_path / "none")
    assert choose_workers("auto", cuda) == 0
    assert choose_workers(0, cuda) == 0
    with pytest.raises(DataError, match=r"none, which cannot be written to; set training.workers: 0"):
        choose_workers(1, CPU)


def test_loaders_are_not_limited_where_there_is_no_such_place(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware.available_cores", lambda: 8)
    monkeypatch.setattr("pipeline.learning.hardware.SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr("sys.platform", "darwin")
    assert choose_workers("auto", torch.device("mps"), 10**9) == 8
    assert choose_workers(5, torch.device("mps"), 10**9) == 5


def test_a_training_on_several_gpus_takes_all_or_hides_none(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.learning.hardware._reserved", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert reserve_gpus(2, tmp_path) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert reserve_gpus(2, tmp_path) == []
    assert reserve_gpus(1, tmp_path) == ["2"]  # what a training that found too few has let go
