"""Kafka: the definition of the topics, and a real broker for machines that have none."""
