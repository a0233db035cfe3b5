"""What an operator sees of a worker: metrics, quantile sketches, logs, and the server for them."""
