"""Users and databases through the real guest API."""

from __future__ import annotations

from typing import Any

import pytest
from bench.controller import GuestCallFailed
from bench.deployment import Server
from bench.waiting import wait_until
from helpers import (
    CAST_SECONDS,
    create_database,
    create_user,
    database_names,
    delete_database,
    delete_user,
    schema,
    user,
    user_names,
    wait_for_fault,
)

# Names that Trove allows and that quoting must survive; within the 32 characters that MySQL allows a user.
ODD_USERS = ["sally@home", "two words", "percent%under_score", "dollar$HOME", "-- comment", "#hash", "%s {0} ${x}", "naïve-ünïcode", "ユーザー"]
ODD_DATABASES = ["two words", "with-dash", "hash#tag", "who?me", "UPPER_score", "1234"]
# Names that Trove's rules refuse.
BAD_USERS = ["it's", 'a "quoted" one', "back`tick", "back\\slash", "semi;DROP USER os_admin;--", "com,ma", " space", "nul\0byte", "", "x" * 300]
BAD_DATABASES = ["it's", "per%cent", "naïve", "back`tick", "back\\slash", "sla/sh", "nul\0byte", "", "x" * 300]
RESERVED_USERS = ["os_admin", "root"]
RESERVED_DATABASES = ["mysql", "information_schema", "performance_schema"]


def pages(server: Server, method: str, limit: int) -> list[list[str]]:
    """All pages of a listing, by following its markers."""
    found: list[list[str]] = []
    marker = None
    while True:
        entries, marker = server.instance.call(method, limit=limit, marker=marker)
        found.append([entry["_name"] for entry in entries])
        if marker is None:
            return found


def assert_pages_of_two(server: Server, method: str, everything: list[str]) -> None:
    by_two = pages(server, method, 2)
    assert [name for page in by_two for name in page] == everything
    assert all(len(page) == 2 for page in by_two[:-1])


def test_a_user_is_made_found_and_deleted(server: Server) -> None:
    password = server.secret()
    create_user(server, user("round", password, databases=("first", "second")))
    found = server.instance.call("get_user", username="round", hostname="%")
    assert (found["_name"], found["_host"]) == ("round", "%")
    assert {database["_name"] for database in found["_databases"]} == {"first", "second"}
    assert server.can_log_in("round", password)
    delete_user(server, "round")
    assert server.instance.call("get_user", username="round", hostname="%") is None
    assert not server.can_log_in("round", password)


def test_a_host_belongs_to_the_user(server: Server) -> None:
    password = server.secret()
    create_user(server, user("elsewhere", password, host="192.0.2.7"))
    try:
        assert server.instance.call("get_user", username="elsewhere", hostname="192.0.2.7")["_host"] == "192.0.2.7"
        assert server.instance.call("get_user", username="elsewhere", hostname="%") is None
        assert not server.can_log_in("elsewhere", password)
    finally:
        delete_user(server, "elsewhere", "192.0.2.7")


def test_users_come_in_pages(server: Server) -> None:
    names = [f"page{number}" for number in range(5)]
    create_user(server, *(user(name, server.secret()) for name in names))
    try:
        assert_pages_of_two(server, "list_users", user_names(server))
        entries, _ = server.instance.call("list_users", limit=1, marker="page2@%", include_marker=True)
        assert [entry["_name"] for entry in entries] == ["page2"]
        entries, _ = server.instance.call("list_users", limit=1, marker="page2@%", include_marker=False)
        assert [entry["_name"] for entry in entries] == ["page3"]
    finally:
        for name in names:
            delete_user(server, name)


def test_databases_come_in_pages(server: Server) -> None:
    names = [f"shelf{number}" for number in range(5)]
    create_database(server, *(schema(name) for name in names))
    try:
        assert_pages_of_two(server, "list_databases", database_names(server))
        entries, _ = server.instance.call("list_databases", limit=1, marker="shelf2", include_marker=True)
        assert [entry["_name"] for entry in entries] == ["shelf2"]
    finally:
        for name in names:
            delete_database(server, name)


def test_access_is_granted_listed_and_revoked(server: Server) -> None:
    password = server.secret()
    create_user(server, user("guest", password))
    try:
        assert server.instance.call("list_access", username="guest", hostname="%") == []
        server.instance.call("grant_access", username="guest", hostname="%", databases=["first", "second"])
        listed = server.instance.call("list_access", username="guest", hostname="%")
        assert sorted(entry["_name"] for entry in listed) == ["first", "second"]
        server.query("guest", password, "SHOW TABLES", database="second")
        server.instance.call("revoke_access", username="guest", hostname="%", database="first")
        listed = server.instance.call("list_access", username="guest", hostname="%")
        assert [entry["_name"] for entry in listed] == ["second"]
    finally:
        delete_user(server, "guest")


def test_access_of_an_unknown_user_is_an_error(server: Server) -> None:
    with pytest.raises(GuestCallFailed):
        server.instance.call("grant_access", username="nobody", hostname="%", databases=["first"])
    with pytest.raises(GuestCallFailed):
        server.instance.call("list_access", username="nobody", hostname="%")


def test_passwords_change(server: Server) -> None:
    old, new = server.secret(), server.secret()
    create_user(server, user("fickle", old))
    try:
        change = {"name": "fickle", "host": "%", "password": new}
        server.instance.cast("change_passwords", "DBaaSUserChangePassword", users=[change])
        wait_until("the new password", lambda: server.can_log_in("fickle", new), CAST_SECONDS)
        assert not server.can_log_in("fickle", old)
    finally:
        delete_user(server, "fickle")


@pytest.mark.parametrize(
    ("attributes", "name", "host"),
    [
        ({"name": "renamed"}, "renamed", "%"),
        ({"host": "198.51.100.%"}, "before", "198.51.100.%"),
        ({"name": "both", "host": "198.51.100.1"}, "both", "198.51.100.1"),
    ],
)
def test_attributes_change(server: Server, attributes: dict[str, str], name: str, host: str) -> None:
    password, changed = server.secret(), server.secret()
    create_user(server, user("before", password, databases=("first",)))
    wanted = {**attributes, "password": changed}
    server.instance.cast("update_attributes", "DBaaSUserUpdateAttributes", username="before", hostname="%", user_attrs=wanted)
    try:
        wait_until("the new attributes", lambda: server.can_log_in(name, changed), CAST_SECONDS)
        found = server.instance.call("get_user", username=name, hostname=host)
        assert [database["_name"] for database in found["_databases"]] == ["first"]
        assert not server.can_log_in(name, password)
    finally:
        delete_user(server, name, host)


@pytest.mark.parametrize("name", ODD_USERS)
def test_odd_user_names_are_names_like_any_other(server: Server, name: str) -> None:
    password = server.secret() + " %$#&*é"
    server.secrets.append(password)
    create_user(server, user(name, password, databases=("first",)))
    try:
        assert server.can_log_in(name, password)
        listed = server.instance.call("list_access", username=name, hostname="%")
        assert [entry["_name"] for entry in listed] == ["first"]
    finally:
        delete_user(server, name)


@pytest.mark.parametrize("name", ODD_DATABASES)
def test_odd_database_names_are_names_like_any_other(server: Server, name: str) -> None:
    create_database(server, schema(name))
    try:
        server.instance.call("grant_access", username="owner", hostname="%", databases=[name])
        server.query("owner", server.owner_password, "CREATE TABLE t (i INT)", database=name)
        server.instance.call("revoke_access", username="owner", hostname="%", database=name)
        assert name not in [entry["_name"] for entry in server.instance.call("list_access", username="owner", hostname="%")]
    finally:
        delete_database(server, name)


@pytest.mark.parametrize("name", BAD_USERS + RESERVED_USERS)
def test_user_names_that_cannot_be_are_refused(server: Server, name: str) -> None:
    before, fault = user_names(server), server.instance.fault()
    server.instance.cast("create_user", "DBaaSUserCreate", users=[user(name, server.secret())])
    wait_for_fault(server, fault)
    assert user_names(server) == before


@pytest.mark.parametrize("name", BAD_DATABASES + RESERVED_DATABASES)
def test_database_names_that_cannot_be_are_refused(server: Server, name: str) -> None:
    before, fault = database_names(server), server.instance.fault()
    server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[schema(name)])
    wait_for_fault(server, fault)
    assert database_names(server) == before


def test_one_bad_database_is_told(server: Server) -> None:
    fault = server.instance.fault()
    bad: dict[str, Any] = schema("fine", character_set="no-such-set")
    server.instance.cast("create_database", "DBaaSDatabaseCreate", databases=[bad])
    wait_for_fault(server, fault)
    assert "fine" not in database_names(server)
