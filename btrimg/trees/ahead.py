"""Work done ahead of its consumer by a few threads, in order and with a bounded number of buffers."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

Task = TypeVar("Task")
Buffer = TypeVar("Buffer")
Result = TypeVar("Result")

THREADS = 2  #: reading and checksums release the GIL; a third one gains nothing where two cores are
_BUFFERS = 1  # of each thread: the other threads' are filled while it is looked at


def ahead(
    work: Callable[[Task, Buffer], Result], tasks: Sequence[Task], new_buffer: Callable[[], Buffer]
) -> Generator[tuple[Task, Result], None, None]:
    """Yield every task with ``work(task, buffer)`` in the order of *tasks*.

    The buffer is the result's until the next one is asked for. What *work* raises is raised here.
    """
    if len(tasks) < 2:  # a small image shall not wait for threads
        for task in tasks:
            yield task, work(task, new_buffer())
        return
    workers = [_Worker(work, tasks[first::THREADS], new_buffer) for first in range(THREADS)]
    try:
        for number, task in enumerate(tasks):
            worker = workers[number % THREADS]
            done = worker.done.get()
            if isinstance(done, BaseException):
                raise done
            result, buffer = done
            yield task, result
            worker.free.put(buffer)
    finally:
        for worker in workers:
            worker.stop()


class _Worker(Generic[Task, Buffer, Result]):
    """One thread with its tasks and buffers."""

    def __init__(
        self, work: Callable[[Task, Buffer], Result], tasks: Sequence[Task], new_buffer: Callable[[], Buffer]
    ) -> None:
        self._work, self._tasks = work, tasks
        self.free: SimpleQueue[Buffer | None] = SimpleQueue()
        self.done: SimpleQueue[tuple[Result, Buffer] | BaseException] = SimpleQueue()  # a result may be an error, too
        for _ in tasks[:_BUFFERS]:
            self.free.put(new_buffer())
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for task in self._tasks:
            buffer = self.free.get()
            if buffer is None:
                return
            try:
                self.done.put((self._work(task, buffer), buffer))
            except BaseException as error:
                self.done.put(error)
                return

    def stop(self) -> None:
        """End the thread after the task that it is at."""
        self.free.put(None)
        self._thread.join()
