"""The guest API and the task manager of Trove 12.1.0 (Train), run with the real thing in a process of its own (see `guest_api`).

It reads the database of the 2026.1 controller: `instances` has had the columns of this release ever since.
"""

from __future__ import annotations

import sys
import types

# Trove 12.1.0 imports sqlalchemy-migrate wherever it touches its database, and uses it to make a database only. This one is made.
for name in ("migrate", "migrate.versioning", "migrate.versioning.api", "migrate.versioning.exceptions"):
    sys.modules[name] = types.ModuleType(name)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])

import sqlalchemy  # noqa: E402
from oslo_db.sqlalchemy import session  # noqa: E402
from sqlalchemy import orm  # noqa: E402


class EngineFacade:
    """Trove 12.1.0 asks oslo.db for this class, which has gone from it since: an engine, and sessions on it."""

    def __init__(self, url: str, **_options: object) -> None:
        self._engine = sqlalchemy.create_engine(url)
        self._sessions = orm.sessionmaker(bind=self._engine, autocommit=True, expire_on_commit=False)

    def get_engine(self, use_slave: bool = False) -> sqlalchemy.engine.Engine:
        return self._engine

    def get_session(self, **options: object) -> orm.Session:
        return self._sessions(**options)


session.EngineFacade = EngineFacade

import guest_api  # noqa: E402 - after what it needs.
import taskmanager  # noqa: E402

if __name__ == "__main__":
    guest_api.serve(taskmanager.resize_volume, taskmanager.resize_flavor, taskmanager.create_mongodb_cluster)
