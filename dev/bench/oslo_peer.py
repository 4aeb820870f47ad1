"""A client of the real oslo.messaging, without Trove's API class around it: raw calls, odd versions, wrong keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import oslo_messaging
from oslo_config import cfg
from trove.common.context import TroveContext
from trove.common.rpc import secure_serializer, serializer

EXCHANGE = "trove"


class OsloPeer:
    """Talks to guests over one broker; several may be used side by side."""

    def __init__(self, url: str) -> None:
        # The global configuration: oslo.messaging registers some of its options nowhere else.
        cfg.CONF([], project="bench", default_config_files=[], default_config_dirs=[])
        oslo_messaging.set_transport_defaults(EXCHANGE)
        allowed = ["trove.common.exception"]
        self._transport = oslo_messaging.get_rpc_transport(cfg.CONF, url=url, allowed_remote_exmods=allowed)

    def call(
        self,
        guest_id: str,
        method: str,
        key: str | None = None,
        version: str = "1.0",
        timeout: float = 30.0,
        call_monitor_timeout: int | None = None,
        context: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Any:
        """The result; a failure raises what oslo.messaging makes of it (`RemoteError` or the rehydrated class).

        `context` is laid over what TroveContext sends.
        """
        client = self._client(guest_id, key, version, timeout, call_monitor_timeout)
        return client.call(_context(context or {}), method, **arguments)

    def cast(self, guest_id: str, method: str, key: str | None = None, version: str = "1.0", **arguments: Any) -> None:
        self._client(guest_id, key, version, None, None).cast(_context({}), method, **arguments)

    def close(self) -> None:
        self._transport.cleanup()

    def _client(
        self, guest_id: str, key: str | None, version: str, timeout: float | None, monitor: int | None
    ) -> oslo_messaging.rpc.client.RPCClient:
        target = oslo_messaging.Target(topic=f"guestagent.{guest_id}", version=version)
        plain = serializer.TroveRequestContextSerializer(None)
        secure = secure_serializer.SecureSerializer(plain, key)
        return oslo_messaging.get_rpc_client(
            self._transport, target, serializer=secure, timeout=timeout, call_monitor_timeout=monitor
        )


def _context(extra: Mapping[str, Any]) -> TroveContext:
    class Context(TroveContext):
        def to_dict(self) -> dict[str, Any]:
            return super().to_dict() | dict(extra)

    return Context(user_id="U1", project_id="T1", is_admin=True, auth_token="TOK", service_catalog=[])
