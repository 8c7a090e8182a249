"""Every error Tandem raises on purpose.

    TandemError
    ├── InputError          an argument, query or setting of the caller
    │   └── MissingPackage      what was asked for needs a package that is not installed
    ├── CorpusError         a corpus, query or judgement file that cannot be read as what it claims to be
    ├── ArtifactError       an exported model that is missing, damaged, unsafe or of the wrong kind
    ├── CollectionError     an indexed corpus that is missing, damaged or does not fit its models
    ├── ExportError         a model that cannot be exported or trained, or a variant that failed its parity check
    ├── StorageError        the file system refused: no space, no permission
    ├── DeviceError         a device that was asked for and is not there, or stopped working
    └── EngineError         a running engine could not answer
        ├── Overloaded          the queue is full; try again later
        ├── EngineClosed        the engine was closed before or during the request
        ├── OutOfMemory         the device had too little memory for a batch
        └── InferenceError      a model failed on this request, or answered with a non-finite number

A message is one sentence a user can act on: what was wrong, where, what to do. Each class has the exit code that the
command line ends with.
"""

from __future__ import annotations


class TandemError(Exception):
    """The root: `except TandemError` catches everything Tandem raises on purpose."""

    exit_code = 1


class InputError(TandemError, ValueError):
    """An argument, query or setting of the caller is not usable."""

    exit_code = 2


class MissingPackage(InputError, ImportError):
    """What was asked for needs a package that is not installed."""


class CorpusError(TandemError):
    """A corpus, query or judgement file cannot be read as what it claims to be."""

    exit_code = 3


class ArtifactError(TandemError):
    """An exported model is missing, damaged, unsafe or of the wrong kind."""

    exit_code = 4


class CollectionError(TandemError):
    """An indexed corpus is missing, damaged or does not fit its models."""

    exit_code = 5


class ExportError(TandemError):
    """A model cannot be exported or trained, or a variant failed its parity check."""

    exit_code = 6


class StorageError(TandemError):
    """The file system refused a write: no space, no permission."""

    exit_code = 7


class DeviceError(TandemError):
    """A device that was asked for is not there, or stopped working."""

    exit_code = 8


class EngineError(TandemError):
    """A running engine could not answer."""

    exit_code = 9


class Overloaded(EngineError):
    """The queue is full; try again later."""


class EngineClosed(EngineError):
    """The engine was closed before or during the request."""


class OutOfMemory(EngineError):
    """The device had too little memory for a batch."""


class InferenceError(EngineError):
    """A model failed on this request, or answered with a non-finite number."""
