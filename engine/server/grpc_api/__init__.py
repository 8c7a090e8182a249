"""The server over gRPC: its own service, that of Text Embeddings Inference, health and reflection.

    server → guard → methods, tei → Service        the listener; keys, time, errors; what each call does

`tandem_v1.proto` and `tei_v1.proto` declare the calls; the modules beside them are made of them by `make protos`. Needs
`pip install 'tandem[grpc]'`; nothing else of the server imports it.
"""
