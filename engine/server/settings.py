"""One model for flags, a TOML file and TANDEM_* variables; a flag wins over a variable, a variable over the file."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from ..config import EngineOptions
from ..errors import InputError

# Fewer bits than this can be guessed at the rate a loopback server answers.
SHORTEST_KEY = 16
# What a browser sends as Origin; a page from a file or a sandboxed frame is "null".
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+")
# Variables that Kubernetes makes for services of the names "tandem" and "tandem-…".
_SERVICE_LINK = re.compile(r"TANDEM_(\w+_)?(SERVICE_(HOST|PORT)|PORT_\d+_)")


class ServerSettings(EngineOptions, BaseSettings):
    """How the server and its engine run. `load` reads all three sources; constructed directly, it reads none."""

    model_config = SettingsConfigDict(env_prefix="TANDEM_", extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int | None = Field(default=9000, ge=0, le=65535)
    """Second listener: /metrics and the probes without a key, and /admin; "none": no such listener."""
    grpc_port: int | None = Field(default=None, ge=0, le=65535)
    """A listener for gRPC at `host`, with the same keys and limits; none: there is none."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Bearer keys, separated by commas in a variable. Without one, only a loopback address is served."""
    api_key_file: Path | None = None
    """A file with one key a line; lines that begin with # are none. Read at the start."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names (Host headers) that a server without keys answers to, besides localhost."""
    cors_allow_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins of web pages (https://app.example) that may ask this server, besides its own; "*": all, with keys."""

    timeout_ms: float = Field(default=30_000, gt=0, allow_inf_nan=False)
    """Milliseconds from a request's headers to its answer; X-Request-Timeout-Ms may shorten it."""
    body_timeout_ms: float = Field(default=10_000, gt=0, allow_inf_nan=False)
    """Milliseconds in which a whole body must have come."""
    header_timeout_ms: float = Field(default=10_000, gt=0, allow_inf_nan=False)
    """Milliseconds in which a request's line and headers must have come."""
    max_body_bytes: int = Field(default=8 * 2**20, gt=0)
    max_buffered_bytes: int = Field(default=256 * 2**20, gt=0)
    """Bytes of bodies held at once over all requests."""
    max_connections: int = Field(default=2048, gt=0)
    """Connections of each listener; of more, those that have waited longest without a request are closed."""
    max_concurrent_requests: int = Field(default=512, gt=0)
    max_documents: int = Field(default=2048, gt=0)
    """Documents of one request that reranks, adds or deletes them."""
    read_only: bool = False
    """Refuse to add and delete documents; whoever may search may else change the collection too."""
    max_inputs: int = Field(default=2048, gt=0)
    """Texts of one embedding or tokenising request."""
    max_queries: int = Field(default=64, gt=0)
    """Queries of one search request."""
    max_text_characters: int = Field(default=1_000_000, gt=0)
    """Characters of one text. All of it is tokenised, some .3 s a million; of its tokens a model reads the first."""
    drain_delay_ms: float = Field(default=5_000, ge=0, allow_inf_nan=False)
    """After SIGTERM: milliseconds in which requests are still taken while /readyz already says 503."""
    drain_timeout_ms: float = Field(default=30_000, ge=0, allow_inf_nan=False)
    """After that: milliseconds in which requests in flight may end; the rest get 503."""

    workers: int | None = Field(default=None, ge=1, le=64)
    """Processes that compute, each with the models and all collections: none is one for each GPU, or one on a CPU. A
    request goes to the one that has least to do. On a CPU they share its cores."""
    supervise: bool = True
    """Run the engine in a worker process that is started again when it dies or is stuck; off: in this process."""
    watchdog_ms: float = Field(default=10_000, ge=500, allow_inf_nan=False)
    """A worker is killed and started again when nothing is heard of it so long, or when a micro-batch takes so much
    longer than twice the time foreseen for its longest text."""
    open_timeout_ms: float = Field(default=600_000, gt=0, allow_inf_nan=False)
    """Longest that a worker may take to open the collection and measure the machine."""
    swap_poll_ms: float = Field(default=1_000, ge=0, allow_inf_nan=False)
    """How often to look whether the collection has a new version, which then is loaded and served; 0: never."""
    trace_endpoint: str | None = None
    """An OTLP collector's URL for spans (http://127.0.0.1:4318/v1/traces); needs OpenTelemetry's SDK and exporter."""

    collections_folder: Path | None = None
    """A folder whose collections are all served, and in which /admin/collections makes and drops them; "none": there
    is none, and the collections that the server was started with are all."""

    models: Annotated[dict[str, Path], NoDecode] = Field(default_factory=dict)
    """Models by themselves, beside the collections or without any: NAME=FOLDER, separated by commas in a variable, a
    table in TOML. A request that names one as its `model` is answered by it."""
    encoder: Path | None = None
    reranker: Path | None = None

    @classmethod
    def load(cls, config: Path | None = None, given: Mapping[str, Any] | None = None, **flags: Any) -> ServerSettings:
        """The settings of a TOML file, the environment and flags: those in `given` whatever they are, and those of
        `flags` that are not None. Raises InputError."""
        try:
            environment = _environment(cls)
            told = {name: value for name, value in flags.items() if value is not None} | dict(given or {})
            return cls(**{**_toml(config), **environment, **told})
        except SettingsError as error:
            raise InputError(f"a TANDEM_ variable cannot be read: {error}") from error
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = ".".join(map(str, first["loc"]))
            said = str(first.get("ctx", {}).get("error", first["msg"]))  # a sentence of ours without pydantic's prefix
            if first["type"] == "extra_forbidden":
                near = get_close_matches(name, cls.model_fields, 1)
                said = f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}"
            raise InputError(f"server setting {name}: {said}" if name else said) from error

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @field_validator("api_keys", "allowed_hosts", "cors_allow_origins", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if wrong := next((name for name, sign, _ in pairs if not sign), None):
            raise ValueError(f"{wrong.strip()}: a model needs a name; write NAME=FOLDER")
        return {name.strip(): folder.strip() for name, _, folder in pairs}

    @field_validator("*", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return None if value == "none" else value  # TOML and variables have no null

    @model_validator(mode="after")
    def _safe(self) -> ServerSettings:
        keys = self.bearer_keys()
        if any(len(key) < SHORTEST_KEY for key in keys):
            raise ValueError(
                f"an API key is shorter than {SHORTEST_KEY} characters; make one with `openssl rand -hex 32`"
            )
        if not keys and not loopback(self.host):
            raise ValueError(
                f"host {self.host} can be reached from other machines and no API key is set; give --api-key-file (or "
                "TANDEM_API_KEYS), or bind to 127.0.0.1"
            )
        if not keys and self.admin_port is not None and not loopback(self.admin_host):
            raise ValueError(
                f"admin_host {self.admin_host} can be reached from other machines and no API key is set; give "
                "--api-key-file (or TANDEM_API_KEYS), or leave admin_host at 127.0.0.1"
            )
        if not keys and "*" in self.cors_allow_origins:
            raise ValueError(
                "cors_allow_origins is * and no API key is set, so any web page that a user opens could search; name "
                "the pages' origins, or give --api-key-file"
            )
        wrong = next((origin for origin in self.cors_allow_origins if not _ORIGIN.fullmatch(origin)), None)
        if wrong is not None:
            raise ValueError(
                f"cors_allow_origins has {wrong}, which is no origin; write it as a browser does, without a path: "
                "https://app.example or http://localhost:3000"
            )
        return self

    def bearer_keys(self) -> tuple[bytes, ...]:
        """Every accepted key; raises ValueError when `api_key_file` cannot be read or holds none."""
        keys = [key.get_secret_value().encode() for key in self.api_keys]
        if self.api_key_file is not None:
            try:
                lines = self.api_key_file.read_bytes().splitlines()
            except OSError as error:
                raise ValueError(f"{self.api_key_file} cannot be read ({error.strerror})") from error
            found = [key for line in lines if (key := line.strip()) and not key.startswith(b"#")]
            if not found:
                raise ValueError(f"{self.api_key_file} holds no key; put one on a line of its own")
            keys.extend(found)
        return tuple(keys)

    def engine_settings(self) -> dict[str, Any]:
        """What `Engine.open` takes of these."""
        chosen = {name: getattr(self, name) for name in EngineOptions.model_fields}
        return {**chosen, "encoder": self.encoder, "reranker": self.reranker}


def unknown_variables() -> list[str]:
    """TANDEM_* variables that set nothing, misspelt perhaps."""
    known = {f"TANDEM_{name}".upper() for name in ServerSettings.model_fields}
    given = (name.upper() for name in os.environ if name.upper().startswith("TANDEM_"))
    return sorted(name for name in given if name not in known and not _SERVICE_LINK.match(name))


def loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _environment(settings: type[ServerSettings]) -> dict[str, Any]:
    """What variables set. A Kubernetes service "tandem" puts its address into TANDEM_PORT, which is no port then."""
    found = EnvSettingsSource(settings)()
    return {name: value for name, value in found.items() if not _is_address(name, value)}


def _is_address(name: str, value: Any) -> bool:
    return name in ("port", "admin_port") and str(value).startswith("tcp://")


def _toml(config: Path | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        with config.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"the settings file {config} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the settings file {config} is not TOML: {error}") from error
