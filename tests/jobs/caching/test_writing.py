"""A cache that is whole, whoever wrote it, side by side with whom, and however often they were killed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import sys
import time
import warnings

import pytest

from small_caches import ONE, B, N, break_byte, bytes_of, table, task, teacher, written
from tutelage import Data, RunOptions, Table
from tutelage.errors import Failed, Interrupted
from tutelage.jobs.caching.claims import NAME, Claims

pytestmark = pytest.mark.usefixtures("untimed_caches")
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, locks and limits as Linux does")

# resuming, and several writers


def in_child(work) -> int:
    """Start work in a new process; gives its number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def status_of(child: int) -> int:
    return os.waitpid(child, 0)[1]


VIEWS = {"views": 1, "keep": "sample-2", "taps": "2"}


@linux
@pytest.mark.parametrize("at", [1, 2, 4, 9, 20])
def test_a_killed_writer_leaves_no_broken_shard_and_the_same_command_goes_on(at, tmp_path):
    """Killed in the middle of a write, the file half on disk: the folder ends byte for byte as if nothing had happened."""
    data = task("shift=1")
    written(tmp_path / "whole", data, **VIEWS)
    count = 0

    def mortal():
        nonlocal count
        synced = os.fsync

        def sync(number):
            nonlocal count
            count += 1
            if count == at:
                os.kill(os.getpid(), signal.SIGKILL)
            synced(number)

        os.fsync = sync
        written(tmp_path / "killed", data, **VIEWS)

    status = status_of(in_child(mortal))
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert bool(list((tmp_path / "killed").rglob(".*.tmp"))) == (at != 2)  # the second one is of the folder, after cache.json
    again = written(tmp_path / "killed", data, **VIEWS)
    assert again.written == 10 - max(0, at - 3) // 2
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert written(tmp_path / "killed", data, **VIEWS).written == 0


@linux
def test_two_processes_share_the_work_and_write_the_same_bytes(tmp_path):
    """Neither waits for the other to finish, and nothing is written twice."""
    data = task("shift=1")
    written(tmp_path / "whole", data, **VIEWS)

    def writer():
        from tutelage.jobs.caching import writing

        real = writing.write_shard

        def meet(path, tensors, note):
            """Wait in one's first shard until the other is in one, too."""
            with (tmp_path / f"by-{os.getpid()}").open("a") as file:
                file.write(f"{path.relative_to(tmp_path)}\n")
            start = time.monotonic()
            while len(list(tmp_path.glob("by-*"))) < 2 and time.monotonic() - start < 60:
                time.sleep(0.002)
            real(path, tensors, note)

        writing.write_shard = meet
        written(tmp_path / "shared", data, **VIEWS)

    children = [in_child(writer) for _ in range(2)]
    assert [status_of(child) for child in children] == [0, 0]
    logs = [(tmp_path / f"by-{child}").read_text().splitlines() for child in children]
    assert all(logs)
    assert len({*logs[0], *logs[1]}) == len(logs[0]) + len(logs[1]) == 10
    assert bytes_of(tmp_path / "shared") == bytes_of(tmp_path / "whole")


@linux
def test_the_shard_of_a_writer_that_dies_is_taken_over(tmp_path):
    """A lock that outlived its owner would keep the others waiting for ever."""
    out = tmp_path / "c"
    out.mkdir()
    held = [
        file for split, count in (("train", 3), ("validation", 2), ("test", 2)) for file in [f"{split}/plain-{i:05d}" for i in range(count)]
    ]

    def holder():
        claims = Claims(out)
        assert claims.take(2)
        (tmp_path / "holds").touch()
        while not all((out / f"{file}.json").is_file() for file in held if file != "train/plain-00001"):
            time.sleep(0.002)
        assert not (out / "train" / "plain-00001.json").exists()
        os.kill(os.getpid(), signal.SIGKILL)

    child = in_child(holder)
    while not (tmp_path / "holds").exists():
        time.sleep(0.002)
    assert written(out).written == 7
    assert os.WTERMSIG(status_of(child)) == signal.SIGKILL
    assert not (out / NAME).exists()


BREAK = {
    "flipped": break_byte,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "without its note": lambda file: file.with_suffix(".json").unlink(),
    "with a note of nonsense": lambda file: file.with_suffix(".json").write_text("{"),
    "of another cache": lambda file: shutil.copy(file.parent.parent.parent / "other" / "train" / file.name, file),
}


@pytest.mark.parametrize("how", BREAK)
def test_what_was_damaged_is_written_anew_and_nothing_else(how, tmp_path, capsys):
    """Never silent zeros; and an hour of sound shards is not thrown away for one that is not."""
    written(tmp_path / "other", who=teacher(4))
    written(tmp_path / "c")
    before = bytes_of(tmp_path / "c")
    BREAK[how](tmp_path / "c" / "train" / "plain-00001.safetensors")
    if how == "of another cache":
        BREAK["with a note of nonsense"](tmp_path / "c" / "train" / "plain-00001.safetensors")
        note = (tmp_path / "other" / "train" / "plain-00001.json").read_text()
        (tmp_path / "c" / "train" / "plain-00001.json").write_text(note)
    assert written(tmp_path / "c", options=RunOptions(device="cpu")).written == 1
    assert ("it is written anew" in capsys.readouterr().err) == ("gone" not in how and "without" not in how)
    assert bytes_of(tmp_path / "c") == before


class Stopping(Table):
    """A table that sends its process a signal at the n-th batch it is asked for."""

    reads, fatal, number = 0, 0, signal.SIGTERM

    def batch(self, positions, **how):
        if len(positions) == B:
            Stopping.reads += 1
            if Stopping.reads == Stopping.fatal:
                os.kill(os.getpid(), Stopping.number)
        return super().batch(positions, **how)

    def varies(self):
        return False


@pytest.mark.parametrize(("number", "shard_mib", "done"), [(signal.SIGTERM, ONE, "4 of 5"), (signal.SIGINT, 64, "0 of 1")])
def test_a_signal_stops_between_passes_and_the_same_command_goes_on(number, shard_mib, done, tmp_path):
    """Control-C, or the end of a job's time: what is finished stays, nothing half is left."""
    data = Data(Stopping(table(23).columns, "toy"))
    Stopping.reads, Stopping.fatal = 0, 10**9
    written(tmp_path / "whole", data, shard_mib=shard_mib)
    Stopping.fatal, Stopping.reads, Stopping.number = Stopping.reads - 1, 0, number
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped; {done} shards are written; the same command goes on") as stop:
        written(tmp_path / "c", data, shard_mib=shard_mib)
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert [file.name for file in (tmp_path / "c").rglob("*.tmp")] == []
    Stopping.fatal = 10**9
    assert written(tmp_path / "c", data, shard_mib=shard_mib).written == 1
    assert bytes_of(tmp_path / "c") == bytes_of(tmp_path / "whole")


@linux
def test_a_full_disk_leaves_what_was_finished_and_a_sentence(tmp_path):
    """By a real limit of the system, on the size of a file: the small first shard fits, the larger second one does not."""
    data = Data(table(N), table(400, 50), name="toy")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        with pytest.raises(Failed, match=r"no room is left \(File too large\); 1 of 2 shards are written; make room, and the same command"):
            written(tmp_path / "c", data, shard_mib=64)

    assert status_of(in_child(limited)) == 0
    assert sorted(file for file in bytes_of(tmp_path / "c") if file != NAME) == [
        "cache.json",
        "train/plain-00000.json",
        "train/plain-00000.safetensors",
    ]
    assert written(tmp_path / "c", data, shard_mib=64).written == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_whatever_the_disk_says_is_said_again_with_what_to_do(number, tmp_path, monkeypatch):
    """Not a stack of frames after hours of passes."""
    from tutelage.jobs.caching import writing

    real, asked = writing.write_shard, []

    def fails(path, tensors, note):
        asked.append(path)
        if len(asked) == 3:
            raise OSError(number, os.strerror(number), str(path))
        real(path, tensors, note)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_shard", fails)
        with pytest.raises(Failed, match=f"{os.strerror(number)}.*2 of 7 shards are written; .* the same command goes on") as failure:
            written(tmp_path / "c")
    assert failure.value.exit_code == 1
    assert written(tmp_path / "c").written == 5


def test_an_error_of_the_data_is_not_called_one_of_the_disk(tmp_path):
    """A picture that is gone is another matter than a full disk."""

    class Gone(Table):
        def batch(self, positions, **how):
            if Gone.left == 0:
                raise FileNotFoundError(2, "No such file or directory", "cat.png")
            Gone.left -= 1
            return super().batch(positions, **how)

        def varies(self):
            return False

    Gone.left = 10**9
    data = Data(Gone(table().columns, "toy"))
    written(tmp_path / "c", data, dry_run=True)
    Gone.left = 10**9 - Gone.left + 2
    with pytest.raises(FileNotFoundError, match=r"cat\.png"):
        written(tmp_path / "c", data)
