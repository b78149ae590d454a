"""Serve what a file of settings says: `python -m windlass_gateway CONFIG.json`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError

from windlass.errors import EXIT_BAD_INPUT, WindlassError
from windlass_gateway.config import GatewayConfig
from windlass_gateway.supervisor import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m windlass_gateway", description=__doc__)
    parser.add_argument("config", type=Path)
    path = parser.parse_args().config
    try:
        return serve(GatewayConfig.model_validate_json(path.read_bytes()))
    except (OSError, ValidationError) as error:
        sys.stderr.write(f"{path}: {error}\n")
        return EXIT_BAD_INPUT
    except WindlassError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
