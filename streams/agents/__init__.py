"""One file an arrow of the picture: the agents that turn records into records."""
