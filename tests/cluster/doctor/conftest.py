"""Namespaces of which each has one thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import cluster_installation
from cluster_installation import Installation
from doctor_places import Place, fresh_namespace


@pytest.fixture
def make_place(installation: Installation) -> Iterator[Callable[..., Place]]:
    """A place whose settings differ from the installation's in what is given; its account may do what runs do."""
    with ExitStack() as places:

        def make(*, storage: dict[str, Any] | None = None, **changes: Any) -> Place:
            own = installation.settings
            changes["namespace"] = places.enter_context(fresh_namespace())
            place = Place(own.model_copy(update={**changes, "storage": own.storage.model_copy(update=storage or {})}))
            place.fill(installation)
            return place

        yield make


@pytest.fixture
def empty_namespace() -> Iterator[str]:
    if reason := cluster_installation.why_not():
        pytest.skip(reason)
    with fresh_namespace() as name:
        yield name
