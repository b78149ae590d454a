"""What a person sets when they start the gateway. Every setting stands in docs/how-to/serve.md."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from windlass.schema import DurationS, Section, SizeBytes
from windlass.variants.engines import Device


class GatewayConfig(Section):
    """One gateway: a reconciler and workers that share a cache directory and a port."""

    tracking_uri: str = Field(description="MLflow server or database whose registry is served")
    cache: Path = Field(description="directory of this gateway alone, for the versions that it serves")
    models: tuple[str, ...] = Field(default=(), description="registered models to serve; empty: all of them")
    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names that requests may carry in `Host`, beside IP addresses and localhost; `*`: any"
    )
    workers: PositiveInt = Field(default=1, description="processes that answer requests")
    threads: PositiveInt = Field(default=1, description="threads of the engine in each worker")
    device: Device = Field(
        default="cpu", description="what the engine runs on; cuda: an NVIDIA GPU, by the package onnxruntime-gpu"
    )
    poll_interval_s: DurationS = Field(default=2.0, gt=0, description="time between two looks at the registry")
    max_unaliased_bytes: SizeBytes = Field(
        default=10**9, ge=0, description="room in the cache for versions without an alias; the least recently used go"
    )
    max_body_bytes: SizeBytes = Field(default=16 * 10**6, gt=0, description="largest body of a request")
    max_rows: PositiveInt = Field(default=4096, description="most rows in one request")
    max_json_depth: PositiveInt = Field(default=16, description="deepest nesting of lists and objects in a body")
    receive_deadline_s: DurationS = Field(
        default=30.0, gt=0, description="time in which a request must have arrived whole, its headers included"
    )
    drain_s: DurationS = Field(
        default=30.0, gt=0, description="time that open requests get when the gateway is stopped"
    )
