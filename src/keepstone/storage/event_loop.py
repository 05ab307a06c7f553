"""The event loop on which all requests of this process run, in a thread of its own.

Layer: storage. Not fsspec's loop: that one is shared with everybody's file systems, waits for what it runs even after
Ctrl-C, and leaves a forked child with its parent's connections. Here a call that is interrupted is cancelled, and a
child gets a loop of its own and cannot touch a connection of its parent.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")

_EXECUTOR_THREADS_MAX: Final = 4
"""They look up names and read certificates."""


class RequestLoop(asyncio.SelectorEventLoop):
    """A loop that knows which process it belongs to, and keeps what lives on it."""

    def __init__(self) -> None:
        self._own_selector = selectors.DefaultSelector()
        self._pid = os.getpid()
        super().__init__(self._own_selector)
        self.kept: set[object] = set()
        """Clients with open connections: referenced from here, they are never collected in the wrong process."""
        self.set_default_executor(_LastingExecutor(_EXECUTOR_THREADS_MAX, "keepstone-lookup"))
        threading.Thread(target=self.run_forever, name="keepstone-requests", daemon=True).start()

    @property
    def is_ours(self) -> bool:
        """Whether this process made the loop; a forked child only has a dead copy."""
        return self._pid == os.getpid()

    def is_running(self) -> bool:
        """Whether it runs: never in a forked child, where finalizers of libraries would wait for it in vain."""
        return self.is_ours and super().is_running()

    def is_closed(self) -> bool:
        """Whether it is of no use any more."""
        return not self.is_ours or super().is_closed()

    def leave_to_parent(self) -> None:
        """Cut a forked child off from its parent's sockets: closing one here could write into it.

        The selector is shared, too: what a child takes out of it, its parent never hears of again.
        """
        nowhere = os.open(os.devnull, os.O_RDWR)
        for fd in list(self._own_selector.get_map()):
            os.dup2(nowhere, fd if isinstance(fd, int) else fd.fileno(), inheritable=False)
        os.close(nowhere)
        if isinstance(self._own_selector, getattr(selectors, "EpollSelector", ())):
            fresh = select.epoll()
            os.dup2(fresh.fileno(), self._own_selector.fileno(), inheritable=False)
            fresh.close()


class _LastingExecutor(ThreadPoolExecutor):
    """Threads for what cannot wait on the loop; while the interpreter ends, when they are gone, the loop does it."""

    def __init__(self, threads: int, name: str) -> None:
        super().__init__(threads, thread_name_prefix=name)

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run `fn` in a thread, or here and now where no thread can be had any more."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            # What is still to be written is written by exit handlers, after Python has closed all executors.
            done: Future[_T] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except BaseException as error:
                done.set_exception(error)
            return done


class _Current:
    def __init__(self) -> None:
        self.loop: RequestLoop | None = None
        self.left: list[RequestLoop] = []
        """Copies of parents' loops: kept, so that nothing on them is ever collected here."""
        self.lock = threading.Lock()


_CURRENT: Final = _Current()


def request_loop() -> RequestLoop:
    """Return this process's loop; it is made when it is first needed."""
    loop = _CURRENT.loop
    if loop is not None:
        return loop
    with _CURRENT.lock:
        if _CURRENT.loop is None:
            _CURRENT.loop = RequestLoop()
        return _CURRENT.loop


def run(loop: RequestLoop, work: Coroutine[Any, Any, _T], *, seconds_max: float) -> _T:
    """Wait for `work` to end on the loop; whatever ends the waiting early, Ctrl-C too, cancels it.

    Raises:
        TimeoutError: it took longer than `seconds_max`.
    """
    return wait_for(submit(loop, work), seconds_max=seconds_max)


def submit(loop: RequestLoop, work: Coroutine[Any, Any, _T]) -> Future[_T]:
    """Let `work` begin; `wait_for` waits for it."""
    return asyncio.run_coroutine_threadsafe(work, loop)


def wait_for(future: Future[_T], *, seconds_max: float) -> _T:
    """Wait for what was submitted; whatever ends the waiting early cancels it.

    Raises:
        TimeoutError: it took longer than `seconds_max`.
    """
    try:
        return future.result(seconds_max)
    except BaseException:
        future.cancel()
        raise


def start(loop: RequestLoop, work: Coroutine[Any, Any, object]) -> None:
    """Let `work` run to its end, or to the end of the process; nobody waits."""
    if loop.is_ours:
        asyncio.run_coroutine_threadsafe(work, loop)
    else:
        work.close()


def _after_fork() -> None:
    _CURRENT.lock = threading.Lock()
    if _CURRENT.loop is not None:
        _CURRENT.loop.leave_to_parent()
        _CURRENT.left.append(_CURRENT.loop)
        _CURRENT.loop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
