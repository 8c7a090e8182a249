"""The engine over HTTP: our own routes, and the dialects that clients already speak.

    access → auth → deadline → body limits → routes     each layer is one small ASGI module; `app` puts them together
    routes → service → host → remote ⇄ worker process   admission; which version answers; the engine, supervised

Needs `pip install 'tandem[serve]'`; nothing here is imported by the engine itself.
"""

from .app import create_app
from .service import Service
from .settings import ServerSettings

__all__ = ["ServerSettings", "Service", "create_app"]
