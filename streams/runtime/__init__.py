"""Kafka and Faust: exactly-once steps on the partitions this worker owns."""
