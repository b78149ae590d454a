"""A small server that answers as the API of Kubeflow Pipelines, v2beta1, is published.

What comes in is checked against the models of `kfp_server_api`, and what goes out is made of them: a field that they do
not have fails the test. It runs nothing: a test says by `Frame`s how a run is to look at each question. The few paths
of Kubernetes that a follower asks beside it are answered from `objects`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api as api
from google.protobuf.json_format import ParseError

_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"
"""Where an API server passes requests on."""
_NOT_FOUND = (404, {"error": "Run not found", "code": 5, "message": "Run not found", "details": []})


@dataclass(frozen=True)
class Frame:
    """How a run looks when it is asked for; the last frame stays."""

    state: str
    tasks: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    error: str = ""
    before: Callable[[], object] = lambda: None
    """What has happened in the meantime."""
    failure: int | None = None
    """Answer with this status instead; 0 cuts the connection."""


@dataclass
class KubeflowServer:
    """The state of the server, and what it was asked."""

    url: str = ""
    frames: list[Frame] = field(default_factory=lambda: [Frame("PENDING")])
    multi_user: bool = False
    token: str | None = None
    is_forbidden: bool = False
    is_login_page: bool = False
    loses_created: bool = False
    """The reply to the creation of a run is lost."""
    runs: dict[str, Any] = field(default_factory=dict)
    experiments: list[Any] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)
    on_terminate: Callable[[], object] = lambda: None
    objects: dict[str, Any] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)
    """Requests that the schema does not have; the server's end fails on them."""

    def answer(self, method: str, target: str, body: bytes, token: str) -> tuple[int, Any]:
        """Status and document; status 0 cuts the connection."""
        url = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.requests.append((method, url.path))
        path = url.path.removeprefix(PROXY)
        if path.startswith(("/api/", "/apis/kubeflow.org", "/apis/trainer")):
            return self._kubernetes(method, path)
        if self.token is not None and token != f"Bearer {self.token}":
            return 401, {"error": "no", "code": 16, "message": "Unauthenticated: the token has expired", "details": []}
        if self.is_forbidden and method == "POST":
            return 403, {"error": "no", "code": 7, "message": "PermissionDenied: may not create runs", "details": []}
        resource, _, rest = path.removeprefix("/apis/v2beta1/").partition("/")
        if resource == "healthz":
            return 200, api.V2beta1GetHealthzResponse(multi_user=self.multi_user)
        if resource == "experiments":
            return self._experiments(method, query, body)
        assert resource == "runs", target
        if not rest:
            return self._create(body) if method == "POST" else self._list(query)
        run_id, _, verb = rest.partition(":")
        if run_id not in self.runs:
            return _NOT_FOUND
        return self._terminate(run_id) if verb == "terminate" else self._show(run_id)

    def _kubernetes(self, method: str, path: str) -> tuple[int, Any]:
        if method == "DELETE":
            self.deleted.append(path)
            return 200, {}
        if path in self.objects:
            return 200, self.objects[path]
        return 404, {"message": f"{path} not found"}

    def _experiments(self, method: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        if method == "POST":
            made = parse(body, "V2beta1Experiment")
            self._check_namespace(made.namespace)
            made.experiment_id = str(uuid.uuid4())
            self.experiments.append(made)
            return 200, made
        self._check_namespace(query.get("namespace"))
        found = [each for each in self.experiments if each.display_name == _wanted_name(query)]
        return 200, api.V2beta1ListExperimentsResponse(experiments=found or None, total_size=len(found))

    def _check_namespace(self, namespace: str | None) -> None:
        """A server of several users needs one, a server of one user refuses it."""
        assert bool(namespace) == self.multi_user, namespace

    def _create(self, body: bytes) -> tuple[int, Any]:
        run = parse(body, "V2beta1Run")
        assert run.run_id is None, "the server gives the id"
        assert run.experiment_id in {each.experiment_id for each in self.experiments}
        check_spec(run.pipeline_spec, run.runtime_config.parameters)
        run.run_id = str(uuid.uuid4())
        self.runs[run.run_id] = run
        return (0 if self.loses_created else 200), run

    def _list(self, query: dict[str, str]) -> tuple[int, Any]:
        found = [run for run in self.runs.values() if run.display_name == _wanted_name(query)]
        found = [run for run in found if run.experiment_id == query["experiment_id"]]
        return 200, api.V2beta1ListRunsResponse(runs=found or None, total_size=len(found))

    def _show(self, run_id: str) -> tuple[int, Any]:
        frame = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        frame.before()
        if frame.failure is not None:
            return frame.failure, {"error": "away", "code": 14, "message": "away", "details": []}
        run = self.runs[run_id]
        run.state = frame.state
        run.state_history = [api.V2beta1RuntimeStatus(state=state, update_time=_START) for state in frame.history]
        run.error = api.GoogleRpcStatus(code=13, message=frame.error) if frame.error else None
        run.run_details = api.V2beta1RunDetails(task_details=list(_task_details(run_id, frame)))
        return 200, run

    def _terminate(self, run_id: str) -> tuple[int, Any]:
        self.terminated.append(run_id)
        self.on_terminate()
        return 200, {}


def parse(body: bytes, model: str) -> Any:
    """The request as a model of the schema.

    Raises:
        AssertionError: a field is unknown there.
    """
    document = json.loads(body)
    known = set(getattr(api, model).attribute_map.values())
    assert set(document) <= known, set(document) - known
    return api.ApiClient().deserialize(_Body(body), model)


def check_spec(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """What the backend does before it starts anything: reads both parts by their schema, and misses no parameter.

    Raises:
        ParseError: a field is unknown there.
        AssertionError: a parameter is missing, unknown, or not text.
    """
    from google.protobuf import json_format
    from kfp.kubernetes import kubernetes_executor_config_pb2
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = json_format.ParseDict(document["pipeline_spec"], pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(document["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    executors = document["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for executor in executors.values():
        json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    assert set(parameters) == set(spec.root.input_definitions.parameters)
    assert all(isinstance(value, str) for value in parameters.values())


@contextlib.contextmanager
def running_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[KubeflowServer]:
    """A server, by default on a free port of this machine."""
    state = KubeflowServer()

    class Handler(_Handler):
        server_state = state

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert state.mistakes == []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: KubeflowServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, document = self.server_state.answer(
                self.command, self.path, body, self.headers.get("Authorization", "")
            )
        except (AssertionError, ParseError) as error:
            self.server_state.mistakes.append(f"{self.command} {self.path}: {error!r}")
            status, document = 400, {"error": "bad", "code": 3, "message": repr(error), "details": []}
        if status == 0:
            self.close_connection = True
            return
        data = json.dumps(api.ApiClient().sanitize_for_serialization(document)).encode()
        if self.server_state.is_login_page:
            data = b"<html>log in</html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815  (http.server's names)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class _Body:
    data: bytes


def _wanted_name(query: Mapping[str, str]) -> str:
    (predicate,) = json.loads(query["filter"])["predicates"]
    assert (predicate["operation"], predicate["key"]) == (1, "display_name")
    return str(predicate["stringValue"])


def _task_details(run_id: str, frame: Frame) -> Iterator[Any]:
    """As a backend of 2.17 tells them: of states only, drivers and executors among them."""
    pairs = frame.tasks.items() if isinstance(frame.tasks, Mapping) else frame.tasks
    for number, (name, state) in enumerate([("root", frame.state), ("root-driver", "SUCCEEDED"), *pairs]):
        for part, part_state in ((name, state), (f"{name}-driver", "SUCCEEDED"), ("executor", state)):
            yield api.V2beta1PipelineTaskDetail(
                run_id=run_id,
                task_id=str(uuid.uuid4()),
                display_name=part,
                create_time=_START + datetime.timedelta(seconds=number),
                state=part_state,
                child_tasks=[],
            )
