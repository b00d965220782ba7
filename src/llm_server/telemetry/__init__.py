"""Turn events into metrics, logs and traces. Nobody imports it; it subscribes."""
