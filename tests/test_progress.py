import io
import time

import pytest
from rich.console import Console

from pipeline.progress import REFRESH, complain, follow, planned_jobs, times_of_logs

STARTED = """[Wed Nov 25 12:06:05 2026]
localrule train:
    input: /k/folds.csv.json
    output: /k/unet/fold{number}/weights.safetensors.json
    log: {log}
    jobid: {number}
    reason: {reason}
    wildcards: model=unet, fold={number}
"""
FINISHED = "[Wed Nov 25 12:06:06 2026]\nFinished jobid: {number} (Rule: train)\n{number} of 9 steps (25%) done\n"
FAILED = """[Wed Nov 25 12:06:06 2026]
Error in rule train:
    message: None
    jobid: {number}
    log: {log} (check log file(s) for error details)
"""


@pytest.fixture
def logs(tmp_path):
    paths = [tmp_path / f"train-unet-fold{number}.log" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_text(f"train: unet, fold {number}\n  unet fold {number}, epoch 1/2\n")
    return paths


def started(number, log, reason="Missing output files: x"):
    return STARTED.format(number=number, log=log, reason=reason)


def printed(text, tmp_path, terminal=False, quiet=False, earlier=()):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, quiet=quiet, highlight=False)
    return follow(io.StringIO(text), tmp_path / "snakemake.log", console, dict(earlier)), out.getvalue()


def test_plain_output_has_every_line_of_every_job_once(logs, tmp_path):
    text = started(1, logs[1]) + started(2, logs[2]) + FINISHED.format(number=1)
    jobs, out = printed(text, tmp_path)
    lines = out.splitlines()
    assert sorted(lines) == sorted(logs[1].read_text().splitlines() + logs[2].read_text().splitlines())
    assert list(jobs.running) == ["2"]
    assert (jobs.done, jobs.total) == (1, 9)
    assert (tmp_path / "snakemake.log").read_text() == text


def test_an_unfinished_line_waits_for_its_end(logs, tmp_path):
    logs[1].write_text("train: unet\n  unet fold 1, epo")
    _, out = printed(started(1, logs[1]), tmp_path)
    assert out == "train: unet\n"


def test_the_log_of_an_earlier_run_is_not_shown_and_takes_nothing_from_the_new_one(logs, tmp_path):
    earlier = times_of_logs(tmp_path)

    def snakemake():
        yield from started(1, logs[1]).splitlines(keepends=True)
        time.sleep(2 * REFRESH)  # in which the job has not opened its log yet
        logs[1].write_text("train: again\n")
        yield from FINISHED.format(number=1).splitlines(keepends=True)

    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False)
    jobs = follow(snakemake(), tmp_path / "snakemake.log", console, earlier)
    assert out.getvalue() == "train: again\n"
    assert jobs.done == 1


def test_a_job_that_fails_before_it_opens_its_log_does_not_complain_with_an_earlier_one(logs, tmp_path, capsys):
    failed = started(1, logs[1]) + FAILED.format(number=1, log=logs[1])
    jobs, _ = printed(failed, tmp_path, earlier=times_of_logs(tmp_path))
    complain(jobs, tmp_path / "snakemake.log")
    assert capsys.readouterr().err == f"error: see {logs[1]}\n"


def test_a_terminal_shows_running_jobs_and_keeps_what_finished_ones_have_said(logs, tmp_path):
    text = started(1, logs[1]) + started(2, logs[2]) + FINISHED.format(number=1)
    _, out = printed(text, tmp_path, terminal=True)
    assert "1 of 9 jobs done" in out
    assert "train unet fold2" in out
    assert "unet fold 2, epoch 1/2" in out  # in the table
    assert "train: unet, fold 1\n" in out.replace("\r", "")


def test_quiet_prints_nothing(logs, tmp_path):
    assert printed(started(1, logs[1]) + FINISHED.format(number=1), tmp_path, quiet=True)[1] == ""


def test_a_failed_job_complains_with_its_own_message_on_stderr_alone(logs, tmp_path, capsys):
    logs[1].write_text("train: unet\nerror: folds.csv is missing\n")
    jobs, out = printed(started(1, logs[1]) + FAILED.format(number=1, log=logs[1]), tmp_path)
    assert "error" not in out
    complain(jobs, tmp_path / "snakemake.log")
    assert capsys.readouterr().err == "error: folds.csv is missing\n"


def test_a_job_that_was_tried_again_and_went_well_has_not_failed(logs, tmp_path):
    both = [started(number, logs[number]) + FAILED.format(number=number, log=logs[number]) for number in (1, 2)]
    again = started(1, logs[1]) + FINISHED.format(number=1)
    jobs, _ = printed("".join(both) + again, tmp_path)
    assert [job.log for job in jobs.failed] == [logs[2]]
    assert not jobs.running


def test_a_bug_shows_the_end_of_the_log(logs, tmp_path, capsys):
    logs[1].write_text("Traceback\nZeroDivisionError\n")
    jobs, _ = printed(started(1, logs[1]) + FAILED.format(number=1, log=logs[1]), tmp_path)
    complain(jobs, tmp_path / "snakemake.log")
    assert capsys.readouterr().err.splitlines() == ["Traceback", "ZeroDivisionError", f"error: see {logs[1]}"]


def test_snakemakes_own_failure_is_shown(tmp_path, capsys):
    jobs, _ = printed("WorkflowError:\nno such profile\n", tmp_path)
    complain(jobs, tmp_path / "snakemake.log")
    *log, last = capsys.readouterr().err.splitlines()
    assert "no such profile" in log
    assert last.startswith("error: Snakemake failed")


def test_a_plan_says_which_jobs_and_why(logs):
    text = (
        started(1, logs[1])
        + started(2, logs[2], "Input files updated by another job: a")
        + started(0, logs[0], "Forced execution")
    )
    assert planned_jobs(text.splitlines()) == [
        ("train unet fold1", "not done yet"),
        ("train unet fold2", "reads what another job makes anew"),
        ("train unet fold0", "out of date"),
    ]
