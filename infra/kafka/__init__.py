"""Real Apache Kafka, embedded or elsewhere, and the one definition of topics."""
