"""Keeps ONNX Runtime from collecting anything. The package imports this before anything else.

As soon as it is imported, ONNX Runtime 1.32 keeps an id of the machine and a queue of uploads in `~/.cache`, on Linux
too, unless this variable says otherwise (`onnxruntime.disable_telemetry_events` comes too late). A library that others
embed must not. This is the one place where an import touches the environment; who sets the variable is heard.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
