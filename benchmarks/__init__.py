"""Programs that measure: ``python -m benchmarks NAME [--json FILE] [--quick]``."""
