"""One batch on its way to the brokers: handed over as far as there was room, and reported as far as they have answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from rillevents.delivery.exporters.kafka.message import Message

if TYPE_CHECKING:
    import confluent_kafka
    from confluent_kafka import KafkaError, Producer

TOO_LARGE = "too large for message.max.bytes"


class Sending:
    """The messages of some lines; lines in *reported* are not sent again. Use it in one thread only.

    *acknowledge* gets the index of each line when it is reported as written.
    """

    def __init__(
        self,
        producer: Producer,
        topic: str,
        lines: tuple[bytes, ...],
        read: Callable[[bytes], Message | str],
        reported: Mapping[int, bytes],
        acknowledge: Callable[[int], None] = lambda index: None,
    ) -> None:
        from confluent_kafka import KafkaException

        # Imported here: inside `advance` an import would cost as much as a message.
        self._failure = KafkaException
        self.producer = producer
        self.lines = lines
        self.rejected: list[tuple[int, str]] = []
        self.failed: dict[int, KafkaError] = {}
        self._acknowledge = acknowledge
        self._topic = topic
        self._read = read
        self._known = reported
        self._next = self._skipped = 0
        self._sent = self._noted = 0

    @property
    def settled(self) -> int:
        """How many messages need no further waiting."""
        return self._noted + self._skipped

    @property
    def is_over(self) -> bool:
        """Whether everything was handed over, and everything handed over was reported."""
        return self._next == len(self.lines) and self._noted == self._sent

    @property
    def failures(self) -> int:
        """How many messages may not have been written."""
        return len(self.failed)

    def advance(self, most: int) -> bool:
        """Hand over what librdkafka has room for, and return whether more can follow at once.

        Raises KafkaException if it accepts nothing at all any more.
        """
        # One loop instead of a function per message: a call costs a tenth of what librdkafka needs.
        topic, produce, read, note, known = self._topic, self.producer.produce, self._read, self.note, self._known
        end = min(self._next + most, len(self.lines))
        for at in range(self._next, end):
            self._next, line = at, self.lines[at]
            if known and known.get(id(line)) is line:
                self._skipped += 1
                self._acknowledge(at)
                continue
            message = read(line)
            if isinstance(message, str):
                self._reject(message)
                continue
            try:
                produce(topic, message[0], message[1], headers=message[2], on_delivery=partial(note, at))
                self._sent += 1
            except BufferError:
                return False
            except self._failure as error:
                if error.args[0].name() != "MSG_SIZE_TOO_LARGE":
                    raise
                self._reject(TOO_LARGE)
        self._next = end
        return end < len(self.lines)

    def note(self, at: int, error: KafkaError | None, message: confluent_kafka.Message) -> None:
        """Record the delivery report of the message of a line."""
        if error is not None:
            self.failed[at] = error
        else:
            self._acknowledge(at)
        self._noted += 1

    def done(self) -> list[bytes]:
        """Return the lines that are reported as written."""
        rejected = {index for index, _ in self.rejected}
        return [line for at, line in enumerate(self.lines) if at not in rejected and at not in self.failed]

    def _reject(self, reason: str) -> None:
        self.rejected.append((self._next, reason))
        self._skipped += 1
