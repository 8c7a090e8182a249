"""Requests of many callers → micro-batches on the one thread that owns the device, at a known cost."""
