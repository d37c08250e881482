"""Batches into a Kafka topic, acknowledged by delivery reports only."""
