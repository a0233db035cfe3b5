"""What the engine stands on: the embedded broker, topics, deployment."""
