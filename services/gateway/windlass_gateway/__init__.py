"""The HTTP gateway: serves registered versions by alias, and follows an alias when it moves."""

from windlass_gateway.config import GatewayConfig
from windlass_gateway.supervisor import serve

__all__ = ["GatewayConfig", "serve"]
