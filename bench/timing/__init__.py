"""Time: of a certificate (latency), of the engine against its machine (throughput), of large tables (forecast)."""
