"""What talks to the outside: cameras, blob stores, clients of the topics."""
