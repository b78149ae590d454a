"""Attacks 1 to 4, 16 to 18, 19 to 21: hostile versions in the registry, and secrets on their way into it."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from windlass.errors import WindlassError
from windlass.registry import Registry, RegistryUnreachableError, UnsafeVersionError
from windlass.registry.bundle import write_version
from windlass.registry.tracking import connect
from windlass.storage import FileEntry, Manifest, describe_directory
from windlass.variants import open_variant
from windlass.variants.engines import load_engine

pytestmark = [
    pytest.mark.attack,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Exists once a command of the attacker has run."""
    return tmp_path / "the-command-ran"


class Bomb:
    """Its pickle runs a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self._marker}",)


class Store:
    """A SQLite registry in which an attacker has registered what the API lets them."""

    def __init__(self, directory: Path, support: Any) -> None:
        self.directory = directory
        self.uri = f"sqlite:///{directory / '.windlass' / 'mlflow.db'}"
        self.client = connect(self.uri)
        self.artifacts = directory / ".windlass" / "mlartifacts"
        experiment = self.client.create_experiment("digits", artifact_location=self.artifacts.as_uri())
        self.run = self.client.create_run(experiment)
        self.client.create_registered_model("digits")
        self.good = directory / "good"
        (directory / "cache").mkdir()
        variant = support.make_variant(directory / "variant")
        write_version(variant, variant / "measurement.json", self.good, run_id=self.run.info.run_id, threads=1)

    def forge(self, change: Callable[[Path], object]) -> int:
        """A version whose files are a good one's after `change`, with our tags and a manifest that fits them."""
        directory = self.directory / uuid.uuid4().hex
        shutil.copytree(self.good, directory)
        change(directory)
        return self.upload(directory, describe_directory(directory))

    def upload(self, directory: Path, manifest: Manifest) -> int:
        manifest.write(directory / "manifest.json")
        self.client.log_artifacts(self.run.info.run_id, str(directory), directory.name)
        return self.create(f"{self.run.info.artifact_uri}/{directory.name}", manifest.digest)

    def create(self, source: str, digest: str | None = "0" * 64) -> int:
        tags = {"windlass.run_key": "k", "windlass.manifest": digest} if digest else {}
        made = self.client.create_model_version("digits", source, self.run.info.run_id, tags=tags, await_creation_for=0)
        return int(made.version)

    def download(self, version: int) -> Path:
        return Registry(self.uri).download("digits", version, self.directory / "cache" / str(version))

    def refused(self, version: int, reason: str) -> None:
        with pytest.raises(UnsafeVersionError, match=reason):
            self.download(version)
        assert not any(path.name.startswith((str(version), ".")) for path in (self.directory / "cache").iterdir())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, support: Any) -> Store:
    return Store(tmp_path_factory.mktemp("store"), support)


def rewrite_mlmodel(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = directory / "MLmodel"
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document))


def unchanged(directory: Path) -> None:
    """The version as we would have registered it."""


def test_the_unchanged_version_is_accepted(store: Store) -> None:
    assert (store.download(store.forge(unchanged)) / "model.onnx").is_file()


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "data/weights.bin", "loader.py"])
def test_attacks_1_and_2_a_pickle_beside_the_model_is_refused_and_never_opened(
    store: Store, marker: Path, name: str
) -> None:
    def add(directory: Path) -> None:
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(pickle.dumps(Bomb(marker)))

    store.refused(store.forge(add), "could run code")
    assert not marker.exists()


def test_attack_1_a_pickle_in_the_place_of_the_model_is_refused_by_the_engine_and_never_opened(
    store: Store, marker: Path
) -> None:
    pickled = pickle.dumps(Bomb(marker))
    copy = store.download(store.forge(lambda directory: (directory / "model.onnx").write_bytes(pickled)))
    with pytest.raises(WindlassError, match=r"model\.onnx"):
        load_engine(copy, open_variant(copy), 1)
    assert not marker.exists()


def test_attack_3_a_cloudpickle_model_is_refused_and_never_opened(store: Store, marker: Path) -> None:
    flavor = {"cloudpickle_version": "3.1.1", "python_model": "model.data", "loader_module": "mlflow.pyfunc.model"}

    def replace(directory: Path) -> None:
        (directory / "model.data").write_bytes(pickle.dumps(Bomb(marker)))
        (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))

    store.refused(store.forge(replace), "its flavor is not onnx but python_function")
    assert not marker.exists()


def test_attack_3_a_foreign_model_without_our_tags_is_refused_unfetched(store: Store) -> None:
    version = store.create(f"{store.run.info.artifact_uri}/anything", digest=None)
    store.refused(version, "it was not registered by windlass")


@pytest.mark.parametrize(
    ("flavor", "key", "value", "reason"),
    [
        ("python_function", "loader_module", "os", "its loader_module is os"),
        ("python_function", "code", "code", "has code, which would run"),
        ("onnx", "code", "code", "has code, which would run"),
        ("python_function", "python_model", "x", "has python_model, which would run"),
        ("python_function", "model_code_path", "x.txt", "has model_code_path, which would run"),
    ],
)
def test_attack_4_an_mlmodel_that_brings_code_is_refused(
    store: Store, flavor: str, key: str, value: str, reason: str
) -> None:
    version = store.forge(
        lambda directory: rewrite_mlmodel(directory, lambda document: document["flavors"][flavor].update({key: value}))
    )
    store.refused(version, reason)


def test_attack_4_another_flavor_is_refused(store: Store) -> None:
    def add(document: dict[str, Any]) -> None:
        document["flavors"]["pytorch"] = {"model_data": "data"}

    store.refused(store.forge(lambda directory: rewrite_mlmodel(directory, add)), "has the flavor pytorch")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "[" * 100_000,
        "flavors: [onnx]",
        "\x00",
        "just text",
    ],
)
def test_attack_4_an_mlmodel_that_is_no_plain_mapping_is_refused(store: Store, marker: Path, text: str) -> None:
    text = text.replace("{marker}", str(marker))
    version = store.forge(lambda directory: (directory / "MLmodel").write_text(text))
    store.refused(version, r"its MLmodel cannot be read|its flavor is not onnx")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["python_env.yaml", "requirements.txt", "conda.yaml"])
def test_attack_16_environment_files_are_never_executed(store: Store, marker: Path, name: str) -> None:
    hostile = f"$(touch {marker})\n`touch {marker}`\n--index-url http://127.0.0.1:9/\nonnx; touch {marker}\n"
    copy = store.download(store.forge(lambda directory: (directory / name).write_text(hostile)))
    assert (copy / name).read_text() == hostile
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/cron.d/x", "..\\outside", "a/../../x", "..%2fx", "a//b", "nul\x00.json", ".hidden"],
)
def test_attack_17_a_file_name_that_leads_elsewhere_is_refused(store: Store, name: str) -> None:
    directory = store.directory / uuid.uuid4().hex
    shutil.copytree(store.good, directory)
    manifest = describe_directory(directory)
    manifest.files[name] = FileEntry(size_bytes=1, sha256="0" * 64)
    store.refused(store.upload(directory, manifest), r"it names a file|its manifest cannot be read")


@pytest.mark.parametrize(
    "source",
    ["file:///etc", "/etc", "{root}/../../../etc", "{root}/%2e%2e/%252e%252e/etc", "{root}-beside/x", "s3://other/x"],
)
def test_attack_18_a_source_outside_of_the_artifact_root_is_refused(store: Store, source: str) -> None:
    version = store.create(source.format(root=store.artifacts.as_uri()))
    store.refused(version, r"is outside of|climbs out of")


def test_attack_18_a_link_below_the_artifact_root_is_refused(store: Store) -> None:
    version = store.forge(unchanged)
    source = store.client.get_model_version("digits", str(version)).source
    golden = Path(source.removeprefix("file://")) / "golden.json"
    golden.unlink()
    golden.symlink_to("/etc/passwd")
    store.refused(version, r"golden\.json is a link")


def test_a_file_that_was_changed_after_registration_is_refused(store: Store) -> None:
    version = store.forge(unchanged)
    source = store.client.get_model_version("digits", str(version)).source
    model = Path(source.removeprefix("file://")) / "model.onnx"
    model.write_bytes(bytes([model.read_bytes()[0] ^ 1]) + model.read_bytes()[1:])
    store.refused(version, r"model\.onnx is not what was registered")


@pytest.mark.parametrize("name", ["MLmodel", "variant.json"])
def test_a_version_without_a_file_that_it_needs_is_refused(store: Store, name: str) -> None:
    store.refused(store.forge(lambda directory: (directory / name).unlink()), f"it has no {name}")


def test_a_version_of_too_many_or_too_large_files_is_refused_before_they_are_fetched(store: Store) -> None:
    def add_files(directory: Path) -> None:
        for number in range(64):
            (directory / f"{number}.txt").write_text("")

    def add_large(directory: Path) -> None:
        with (directory / "golden.json").open("wb") as file:
            file.truncate((16 << 20) + 1)

    store.refused(store.forge(add_files), "it has more than 64 files")
    store.refused(store.forge(add_large), r"golden\.json is larger than 16,777,216 bytes")


def test_a_file_that_grew_after_registration_is_refused_unfetched(store: Store) -> None:
    version = store.forge(unchanged)
    source = store.client.get_model_version("digits", str(version)).source
    with (Path(source.removeprefix("file://")) / "model.onnx").open("ab") as file:
        file.write(b"more")
    store.refused(version, r"model\.onnx is larger than [\d,]+ bytes")


def test_what_is_refused_says_which_versions_are_not(store: Store) -> None:
    version = store.create(f"{store.run.info.artifact_uri}/anything", digest=None)
    with pytest.raises(UnsafeVersionError) as refused:
        store.download(version)
    text = str(refused.value)
    assert f"version {version} of model 'digits' is refused: it was not registered by windlass; only versions" in text
    assert "that `windlass run` registered are served, see `windlass models show digits`" in text


@pytest.mark.slow
def test_attack_18_the_real_server_and_we_refuse_a_local_source(tmp_path: Path, support: Any) -> None:
    from mlflow import MlflowException

    server = support.MlflowServer(tmp_path)
    server.run()
    try:
        client = connect(server.url)
        client.create_registered_model("digits")
        with pytest.raises(MlflowException, match="Invalid model version source"):
            client.create_model_version("digits", "file:///etc", await_creation_for=0)
        tags = {"windlass.run_key": "k", "windlass.manifest": "0" * 64}
        client.create_model_version("digits", "s3://somebody-elses/bucket", tags=tags, await_creation_for=0)
        with pytest.raises(UnsafeVersionError, match="outside of mlflow-artifacts:/"):
            Registry(server.url).download("digits", 1, tmp_path / "copy")
    finally:
        server.kill()


@pytest.mark.parametrize(
    "source",
    [
        "http://169.254.169.254/latest/meta-data",
        "mlflow-artifacts://169.254.169.254/digits",
        "https://169.254.169.254/api/2.0/mlflow-artifacts/artifacts/x",
    ],
)
def test_attack_19_a_source_that_names_the_metadata_service_is_refused_unasked(store: Store, source: str) -> None:
    store.refused(store.create(source), "is outside of")


def test_attack_19_a_redirect_is_not_followed() -> None:
    asked: list[str] = []
    target = _answer_with(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", asked, "target")
    redirect = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{target}/\r\nContent-Length: 0\r\n\r\n"
    front = _answer_with(redirect.encode(), asked, "front")
    with pytest.raises((UnsafeVersionError, RegistryUnreachableError)):
        Registry(f"http://127.0.0.1:{front}").models()
    assert set(asked) == {"front"}


def _answer_with(reply: bytes, asked: list[str], name: str) -> int:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            asked.append(name)
            with client:
                client.recv(65536)
                client.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


SECRETS = {
    "data.source": "postgresql+psycopg2://reader:hunter2@db:5432/rows",
    "storage.access": "AKIAIOSFODNN7EXAMPLE",
    "storage.other": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "storage.aws_secret_access_key": "plainlooking",
    "options": "timeout=3&password=letmein&retries=1",
    "nested": "{'api_key': 'sk-abcdef', 'size': 3}",
    "from.environment": "prefix-session-token-0123456789-suffix",
}
LEAKS = [
    "hunter2",
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI",
    "plainlooking",
    "letmein",
    "sk-abcdef",
    "session-token-0123",
]


def test_attack_21_secrets_in_parameters_reach_neither_the_store_nor_a_log(
    tmp_path: Path, support: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token-0123456789")
    uri = f"sqlite:///{tmp_path / '.windlass' / 'mlflow.db'}"
    registration = support.register_variant(uri, support.make_variant(tmp_path / "variant"), parameters=SECRETS)
    parameters = connect(uri).get_run(registration.run_id).data.params
    assert parameters["data.source"] == "postgresql+psycopg2://***@db:5432/rows"
    assert parameters["options"] == "timeout=3&password=***&retries=1"
    stored = b"".join(path.read_bytes() for path in (tmp_path / ".windlass").rglob("*") if path.is_file())
    shown = "".join(capfd.readouterr())
    assert [leak for leak in LEAKS if leak.encode() in stored or leak in shown] == []


def test_attack_21_what_only_looks_like_a_secret_stays(tmp_path: Path) -> None:
    from windlass.registry import redact

    for harmless in ("0" * 64, "a1" * 20, "https://example.org/a@b", "max_tokens: 5 of 7", "s3://bucket/prefix"):
        assert redact(harmless) == harmless
