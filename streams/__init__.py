"""The streaming engine: pure core, runtime, agents, observability."""
