"""Processes take turns, and none waits for one that has ended."""

from __future__ import annotations

import fcntl
import os
import signal

import pytest

from btrimg.mount.workers import ProcessLock


def test_a_lock_is_of_one_process_until_it_ends() -> None:
    lock = ProcessLock()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        lock.acquire()
        os.write(writing, b"\0")
        signal.pause()
        os._exit(1)
    try:
        os.read(reading, 1)
        with pytest.raises(BlockingIOError):
            fcntl.lockf(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    lock.acquire()
    lock.release()
    for descriptor in reading, writing:
        os.close(descriptor)
    lock.close()
