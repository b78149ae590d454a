"""`windlass serve`: the gateway on this machine."""

from __future__ import annotations

import sys

from windlass.registry.names import parse_spec
from windlass.storage import Workspace
from windlass.variants.engines import Device, check_device
from windlass_cli.open_registry import registry_uri
from windlass_gateway import GatewayConfig
from windlass_gateway import serve as serve_gateway


def serve_models(
    models: list[str], *, host: str, port: int, workers: int, device: Device, root: str, tracking_uri: str | None
) -> int:
    """Serve until SIGTERM or Ctrl-C; open requests end first.

    Returns:
        0, or 1 when requests were still open when the time to drain was over.

    Raises:
        InvalidModelNameError, InvalidVersionError: what is asked for cannot be a model.
        DeviceUnavailableError: this machine does not run models on the device.
        NothingRegisteredError, NothingToServeError: nothing of it is registered. A registry that does not answer is
            waited for.
    """
    check_device(device)
    names = tuple(dict.fromkeys(parse_spec(model)[0] for model in models))
    local = Workspace(root).local
    config = GatewayConfig(
        tracking_uri=registry_uri(root, tracking_uri),
        cache=local / "gateway" / str(port),
        models=names,
        host=host,
        port=port,
        workers=workers,
        device=device,
    )
    print(_hint(names[0], host, port), file=sys.stderr)
    return serve_gateway(config, wanted=models)


def _hint(name: str, host: str, port: int) -> str:
    url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared, not bound
    return (
        f"serving at {url}; try\n"
        f"  curl {url}/v1/models\n"
        f"  curl {url}/v1/models/{name}/predict -H 'content-type: application/json' -d '{{\"rows\": [...]}}'\n"
        f"its form: {url}/openapi.json    stop: Ctrl-C"
    )
