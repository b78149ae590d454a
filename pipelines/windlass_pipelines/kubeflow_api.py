"""The API of Kubeflow Pipelines, by its own client: each request has a deadline, each error says what to do."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import InvalidInputError, WindlassError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

TOKEN_VARIABLE = "WINDLASS_KFP_TOKEN"  # noqa: S105  (the name of a variable)
TOKEN_FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"  # noqa: S105  (as the kfp client names it)
FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})

_TIMEOUT_S = (5.0, 30.0)
"""To connect, and to read."""
_OUTAGE_S = 300.0
_MOST_WAIT_S = 10.0
_EQUALS = 1
"""Of the API's filters."""
_UNKNOWN_RUN = (400, 404)


class KubeflowRefusedError(WindlassError):
    """Kubeflow Pipelines does not let this be done, or not by this identity."""

    def __init__(self, url: str, action: str, status: int, message: str) -> None:
        advice = {
            401: f"; give a token that is valid: {TOKEN_VARIABLE}, or a file that {TOKEN_FILE_VARIABLE} names",
            403: "; ask whoever runs it for the right to do so in this namespace",
        }.get(status, "")
        super().__init__(f"Kubeflow Pipelines at {url} refuses {action} ({status}): {message}{advice}")
        self.url, self.action, self.status, self.message = url, action, status, message


class KubeflowUnreachableError(WindlassError):
    """Kubeflow Pipelines gave no answer; what runs there goes on."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"Kubeflow Pipelines at {url} does not answer: {cause}; what runs there goes on: see that the address can "
            "be reached from here, then `windlass runs attach` follows it again"
        )
        self.url, self.cause = url, cause


class NotKubeflowError(InvalidInputError):
    """Something else answers at this address, mostly a page on which to log in."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"{url} does not answer as the API of Kubeflow Pipelines does: give --kfp the address below which "
            f"/apis/v2beta1 lies, and if it asks for a login, a token by {TOKEN_VARIABLE}"
        )
        self.url = url


class TokenFileError(InvalidInputError):
    """The file with the token cannot be read."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{TOKEN_FILE_VARIABLE} names {path}: {cause}; correct it, or unset it")
        self.path = path


@dataclass(frozen=True)
class _Services:
    """The parts of the generated client that are used, by the names that `kfp.Client` gives them."""

    runs: Any
    experiments: Any
    healthzs: Any


@dataclass(frozen=True)
class RunState:
    """One run as Kubeflow Pipelines shows it: states, and little else."""

    state: str
    tasks: Mapping[str, str]
    """The state of each task by its name, of the newest one where it was started again."""
    is_cancelled: bool
    """Somebody asked for its end; it may be FAILED then."""
    error: str

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES


class KubeflowApi:
    """One server, and the namespace in which runs are made where it has several.

    The client's own settings hold: cookies and headers of `~/.config/kfp/context.json`, Identity-Aware Proxy by its
    KF_PIPELINES_* variables, certificates.

    Args:
        url: of the API, as `kfp.Client` takes it for `host`.
        cluster: whose API server passes requests on to `url`, for its own user; None where nobody stands between.
        outage_s: for how long `get_run` waits for an answer.

    Raises (all methods):
        KubeflowRefusedError: the server refuses the request.
        KubeflowUnreachableError: it does not answer.
        NotKubeflowError: something else does.
    """

    def __init__(
        self, url: str, namespace: str, *, cluster: ApiClient | None = None, outage_s: float = _OUTAGE_S
    ) -> None:
        self.url, self._outage_s = url.rstrip("/"), outage_s
        if not url.startswith(("http://", "https://")):
            raise NotKubeflowError(url)
        with self._speaking("the connection"):
            self._client = _open_client(self.url, namespace) if cluster is None else _open_through(cluster, self.url)
        health = self._ask("to tell its health", self._client.healthzs.healthz_service_get_healthz)
        # A server for one user alone refuses a namespace.
        self._place = {"namespace": namespace} if health.multi_user else {}

    def create_run(self, name: str, *, experiment: str, spec: Mapping[str, Any], arguments: Mapping[str, str]) -> str:
        """Start a run; gives its id. A run of this name whose creation went unanswered is found again."""
        import kfp_server_api as api

        experiment_id = self._experiment(experiment)
        run = api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_spec=dict(spec),
            runtime_config=api.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
        create = self._client.runs.run_service_create_run
        try:
            return self._known(self._ask("to start a run", create, run=run).run_id)
        except KubeflowUnreachableError:
            # The request may have arrived all the same; if not, mostly an idle connection had been closed.
            query = {"experiment_id": experiment_id, "filter": _named(name)}
            found = self._ask("to list runs", self._client.runs.run_service_list_runs, **query).runs
            return self._known((found[0] if found else self._ask("to start a run", create, run=run)).run_id)

    def get_run(self, run_id: str, on_outage: Callable[[str], object] = lambda _: None) -> RunState:
        """How a run stands; waits for an answer, and says so once."""
        give_up_s, wait_s = time.monotonic() + self._outage_s, 0.5
        while True:
            try:
                run = self._ask("to read the run", self._client.runs.run_service_get_run, run_id=run_id)
            except KubeflowUnreachableError as error:
                if time.monotonic() + wait_s > give_up_s:
                    raise
                if wait_s == 0.5:
                    on_outage(f"Kubeflow Pipelines does not answer, the run goes on: {error.cause}")
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _MOST_WAIT_S)
                continue
            self._known(run.run_id)
            return _state_of(run)

    def terminate(self, run_id: str) -> None:
        """Ask for the end of a run; one that has ended already stays as it is."""
        try:
            self._ask("to end the run", self._client.runs.run_service_terminate_run, run_id=run_id)
        except KubeflowRefusedError as error:
            if error.status not in _UNKNOWN_RUN or not self.get_run(run_id).is_final:
                raise

    def _experiment(self, name: str) -> str:
        import kfp_server_api as api

        experiments = self._client.experiments
        query = {**self._place, "filter": _named(name)}
        found = self._ask("to list experiments", experiments.experiment_service_list_experiments, **query)
        if found.experiments:
            return self._known(found.experiments[0].experiment_id)
        experiment = api.V2beta1Experiment(display_name=name, **self._place)
        create = experiments.experiment_service_create_experiment
        return self._known(self._ask("to make an experiment", create, experiment=experiment).experiment_id)

    def _known(self, answer: str | None) -> str:
        if not answer:
            raise NotKubeflowError(self.url)
        return answer

    def _ask(self, action: str, method: Callable[..., Any], **arguments: Any) -> Any:
        with self._speaking(action):
            return method(**arguments, _request_timeout=_TIMEOUT_S)

    @contextlib.contextmanager
    def _speaking(self, action: str) -> Iterator[None]:
        """Turn what the client raises into our errors, and keep its warnings from the terminal."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        log = logging.getLogger("urllib3.connectionpool")
        level = log.level
        log.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except ApiException as error:
            if not error.status or error.status >= 500:
                raise KubeflowUnreachableError(self.url, f"{error.status or ''} {error.reason}".strip()) from None
            raise KubeflowRefusedError(self.url, action, error.status, _message(error)) from None
        except (HTTPError, OSError) as error:
            raise KubeflowUnreachableError(self.url, str(error)) from None
        finally:
            log.setLevel(level)


def _open_client(url: str, namespace: str) -> Any:
    import kfp

    token, token_file = os.environ.get(TOKEN_VARIABLE), os.environ.get(TOKEN_FILE_VARIABLE)
    credentials = None
    if token_file and not token:
        from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

        try:
            Path(token_file).read_bytes()
        except OSError as error:
            raise TokenFileError(token_file, str(error.strerror)) from None
        credentials = ServiceAccountTokenVolumeCredentials(token_file)
    return kfp.Client(host=url, namespace=namespace, existing_token=token or None, credentials=credentials)


def _open_through(cluster: ApiClient, url: str) -> _Services:
    """The same classes with the certificates of a cluster's user, and its token as it is renewed."""
    import kfp_server_api as api

    configuration = api.Configuration(host=url)
    for name in ("verify_ssl", "ssl_ca_cert", "cert_file", "key_file", "assert_hostname", "proxy"):
        setattr(configuration, name, getattr(cluster.configuration, name))

    def renew(own: Any) -> None:
        headers: dict[str, str] = {}
        cluster.update_params_for_auth(headers, [], ["BearerToken"])
        own.api_key["authorization"] = headers["authorization"]

    if cluster.configuration.auth_settings():
        configuration.api_key["authorization"] = "renewed for each request"
        configuration.refresh_api_key_hook = renew
    client = api.ApiClient(configuration)
    return _Services(api.RunServiceApi(client), api.ExperimentServiceApi(client), api.HealthzServiceApi(client))


def _named(name: str) -> str:
    return json.dumps({"predicates": [{"operation": _EQUALS, "key": "display_name", "stringValue": name}]})


def _state_of(run: Any) -> RunState:
    details = (run.run_details.task_details if run.run_details else None) or []
    tasks = {}
    for task in sorted(details, key=lambda task: task.create_time.timestamp() if task.create_time else 0.0):
        tasks[str(task.display_name)] = str(task.state)
    history = {str(status.state) for status in run.state_history or ()}
    state = str(run.state)
    return RunState(
        state=state,
        tasks=tasks,
        is_cancelled=bool({"CANCELING", "CANCELED"} & (history | {state})),
        error=str(run.error.message or "") if run.error else "",
    )


def _message(error: Any) -> str:
    """What the server says in its JSON; anything else is a proxy's page."""
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
