"""What the engine asks of the machine: devices, processors, drivers, files that survive a crash."""
