"""The words of the log: Avro schemas, typed records and the codec between them."""
