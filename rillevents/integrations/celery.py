"""The tasks of a Celery worker as events: start, success, failure, retry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import signals

if TYPE_CHECKING:
    from rillevents.recording import Client


class TaskEvents:
    """Records behavioral events for the tasks of this process and of the workers that it forks, until `disconnect`.

    `task-start`, then `task-success`, `task-failure` or `task-retry`, with `task` (its name), `task_id`, `attempt` (1 for the
    first one) and, at the end, `duration_s`; a failure and a retry with `error`, the exception's class. Arguments, results and
    messages are never read. *client* may be made before the fork: one that spools is safe there.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self._started: dict[str, float] = {}
        self._connections = (
            (signals.task_prerun, self._prerun),
            (signals.task_success, self._success),
            (signals.task_failure, self._failure),
            (signals.task_retry, self._retry),
            (signals.task_postrun, self._postrun),
        )
        for signal, receiver in self._connections:
            # Strongly: whoever does not keep this object must not lose the events.
            signal.connect(receiver, weak=False)

    def disconnect(self) -> None:
        """Stop recording."""
        for signal, receiver in self._connections:
            signal.disconnect(receiver)

    def _prerun(self, task_id: str = "", task: Any = None, **_: Any) -> None:
        self._started[task_id] = time.perf_counter()
        self.client.record_behavioral("task-start", _attributes(task, task_id))

    def _success(self, sender: Any = None, **_: Any) -> None:
        self._end("task-success", sender, sender.request.id, {})

    def _failure(self, sender: Any = None, task_id: str = "", exception: object = None, **_: Any) -> None:
        self._end("task-failure", sender, task_id, {"error": type(exception).__name__})

    def _retry(self, sender: Any = None, request: Any = None, reason: object = None, **_: Any) -> None:
        cause = getattr(reason, "exc", None) or reason
        self._end("task-retry", sender, request.id, {"error": type(cause).__name__})

    def _postrun(self, task_id: str = "", **_: Any) -> None:
        # A task that was ignored or rejected has no end of its own.
        self._started.pop(task_id, None)

    def _end(self, name: str, task: Any, task_id: str, more: dict[str, Any]) -> None:
        started = self._started.pop(task_id, None)
        if started is not None:
            more["duration_s"] = round(time.perf_counter() - started, 6)
        self.client.record_behavioral(name, _attributes(task, task_id), **more)


def _attributes(task: Any, task_id: str) -> dict[str, Any]:
    retries = getattr(getattr(task, "request", None), "retries", None) or 0
    return {"task": getattr(task, "name", ""), "task_id": task_id, "attempt": retries + 1}
