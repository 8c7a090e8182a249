"""The engine over HTTP: our own routes, and the dialects that clients already speak.

    listener → paths → access → auth → deadline → routes       each layer is one small module; `app` puts them together
    routes → service → lease → worker client ⇄ worker          admission; one request's hold on a worker; its process
    supervisor → seats; swaps                                  workers that end are replaced; versions that are served

Needs `pip install 'tandem[serve]'`; nothing here is imported by the engine itself.
"""

from .app import create_app
from .service import Service
from .settings import ServerSettings

__all__ = ["ServerSettings", "Service", "create_app"]
