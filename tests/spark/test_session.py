from __future__ import annotations

from pathlib import Path

import pytest

from windlass.data.spark.session import NoJavaError, OldJavaError, check_java, local_settings, spark_context

pytestmark = pytest.mark.spark


def fake_java(directory: Path, text: str) -> Path:
    java = directory / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    java.chmod(0o755)
    return directory


def test_no_java_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoJavaError, match=r"needs Java 17 or newer.*no `java`.*JAVA_HOME.*duckdb"):
        check_java()


def test_an_old_java_is_told_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk", 'openjdk version "1.8.0_402"')))
    with pytest.raises(OldJavaError, match=r"jdk/bin/java is 8; install a newer one"):
        check_java()


@pytest.mark.parametrize("version", ["17.0.15", "25"])
def test_a_java_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, f'openjdk version "{version}" 2025-04-15')))
    check_java()


def test_a_session_listens_to_this_machine_only_and_to_nobody_without_its_secret(tmp_path: Path) -> None:
    settings = local_settings(tmp_path, threads=2, memory_limit_bytes=2 * 10**9)
    with spark_context(settings) as context:
        assert context.parallelize(range(1000), 4).sum() == sum(range(1000))
        assert context.getConf().get("spark.driver.bindAddress") == "127.0.0.1"
        assert context.getConf().get("spark.authenticate") == "true"
