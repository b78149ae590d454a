"""How every component is made: our image, nothing installed when a step starts."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

import windlass

IMAGE = f"windlass-python:{windlass.__version__}-cpu"
"""kfp.local warns of images whose name does not hold `python`."""


def component(function: Callable[..., Any]) -> Any:
    """Make a KFP component of a function whose body imports what it uses."""
    return dsl.component(function, base_image=IMAGE, install_kfp_package=False)
