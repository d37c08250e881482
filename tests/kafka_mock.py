"""librdkafka's mock cluster, driven over its C API: confluent-kafka has no call that makes a mock broker err."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any

import pytest

confluent_kafka = pytest.importorskip("confluent_kafka", reason="confluent-kafka has no wheel for this Python yet")

PRODUCE, METADATA, INIT_PRODUCER_ID = 0, 3, 22


class MockCluster:
    """Mock brokers on 127.0.0.1; whatever topic is asked for is there, with four partitions."""

    def __init__(self, brokers: int = 1) -> None:
        self._library = library()
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", None, 0)
        self._handle = self._library.rd_kafka_new(0, settings, None, 0)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, brokers)
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def __enter__(self) -> MockCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)

    def url(self, topic: str = "events") -> str:
        """Return the destination that leads here."""
        return f"kafka://{self.servers}/{topic}"

    def answer(self, request: int, *codes: int) -> None:
        """Let the next requests of one kind be answered by these errors."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(codes), errors)

    def refuse(self, topic: str, code: int) -> None:
        """Answer requests for a topic with an error."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def without_leader(self, topic: str, partition: int) -> None:
        """Leave a partition without a leader."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, -1)

    def with_leader(self, topic: str, partition: int, broker: int) -> None:
        """Give it one again."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker)

    def set_down(self, broker: int) -> None:
        """Let a broker refuse connections."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def set_up(self, broker: int) -> None:
        """Let it take them again."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def delay(self, broker: int, milliseconds: int) -> None:
        """Let all answers of a broker take so long."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, broker, milliseconds)


def library() -> Any:
    """Return librdkafka, the one that confluent-kafka has loaded; a test is skipped where it is not beside it."""
    folder = Path(confluent_kafka.__file__).parents[1]
    found = [
        *folder.glob("confluent_kafka.libs/librdkafka*"),
        *folder.glob("confluent_kafka/.dylibs/librdkafka*.dylib"),
    ]
    if not found and os.environ.get("CI"):
        pytest.fail("librdkafka is not beside confluent-kafka, and CI has to have it")
    if not found:
        pytest.skip("librdkafka is not beside confluent-kafka: it was not installed from a wheel")
    loaded = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_new", pointer, (number, pointer, pointer, ctypes.c_size_t)),
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_conf_set", number, (pointer, text, text, pointer, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, number)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_push_request_errors_array", None, (pointer, ctypes.c_int16, ctypes.c_size_t, pointer)),
        ("rd_kafka_mock_topic_set_error", None, (pointer, text, number)),
        ("rd_kafka_mock_partition_set_leader", number, (pointer, text, ctypes.c_int32, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_down", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_up", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_rtt", number, (pointer, ctypes.c_int32, number)),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
