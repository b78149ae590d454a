"""Which cluster and which installation is meant, asked of an API server that answers as the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient, Configuration

from installations import installation_settings
from windlass.cluster._rest import Rest
from windlass.cluster.discovery import (
    NoClusterError,
    NoInstallationError,
    SeveralInstallationsError,
    connect,
    find_settings,
)
from windlass.cluster.errors import ApiError, ClusterUnreachableError
from windlass.cluster.settings import InvalidSettingsError

SETTINGS = installation_settings(namespace="team-a")


@contextmanager
def api_server(status: int, answer: dict[str, Any]) -> Iterator[ApiClient]:
    """Gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = ApiClient(Configuration(host=f"http://127.0.0.1:{server.server_port}"))
        try:
            yield api
        finally:
            api.rest_client.pool_manager.clear()
            server.shutdown()


def config_map(name: str, data: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "data": {"settings.json": data}}


def test_the_settings_of_the_one_installation_are_found() -> None:
    with api_server(200, {"items": [config_map("windlass-settings", SETTINGS.model_dump_json())]}) as api:
        assert find_settings(api, "team-a") == SETTINGS


def test_a_namespace_without_an_installation_is_told_how_to_get_one() -> None:
    says = r"'team-a' has no installation of Windlass; .*--namespace.*helm install windlass charts/windlass --namespace"
    with api_server(200, {"items": []}) as api, pytest.raises(NoInstallationError, match=says):
        find_settings(api, "team-a")


def test_two_installations_of_a_namespace_are_named() -> None:
    found = [config_map(name, SETTINGS.model_dump_json()) for name in ("one-settings", "two-settings")]
    says = r"several installations of Windlass \(one-settings, two-settings\); leave one"
    with api_server(200, {"items": found}) as api, pytest.raises(SeveralInstallationsError, match=says):
        find_settings(api, "team-a")


def test_settings_of_another_version_name_the_field_and_what_to_upgrade() -> None:
    newer = json.dumps({**SETTINGS.model_dump(mode="json"), "flavour": "x"})
    says = r"ConfigMap team-a/w: flavour: Extra inputs are not permitted; upgrade the chart and the command line"
    with api_server(200, {"items": [config_map("w", newer)]}) as api, pytest.raises(InvalidSettingsError, match=says):
        find_settings(api, "team-a")


def test_a_missing_right_is_named_with_what_grants_it() -> None:
    answer = {"kind": "Status", "message": 'configmaps is forbidden: User "eve" cannot list'}
    says = r"refuses GET .*configmaps \(403\): .*cannot list; grant the verb to this identity in a Role"
    with api_server(403, answer) as api, pytest.raises(ApiError, match=says):
        find_settings(api, "team-a")


def test_a_cluster_that_is_away_says_that_its_jobs_go_on() -> None:
    rest = Rest(ApiClient(Configuration(host="http://127.0.0.1:9")), outage_s=0.0)
    with pytest.raises(ClusterUnreachableError, match=r"does not answer: .*; the same command goes on with what runs"):
        rest.get("/version")


def test_a_context_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team-a"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    assert connect()[1] == "team-a"
    with pytest.raises(
        NoClusterError, match="KUBECONFIG has no context 'there'; set KUBECONFIG, or choose a --context"
    ):
        connect("there")
