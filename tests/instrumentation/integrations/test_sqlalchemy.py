import asyncio
import gc

import pytest

import llmvitals

sqlalchemy = pytest.importorskip("sqlalchemy")
pool = pytest.importorskip("sqlalchemy.pool")


@pytest.fixture(name="engine")
def _engine(tmp_path):
    engine = sqlalchemy.create_engine(
        f"sqlite:///{tmp_path / 'database'}",
        poolclass=pool.QueuePool,
        pool_size=1,
        max_overflow=1,
        pool_timeout=0.01,
        pool_logging_name="main",
    )
    yield engine
    engine.dispose()


def connections(vitals, name="main"):
    return {
        dict(labels)["state"]: value
        for labels, value in vitals.samples("llmvitals_pool_connections").items()
        if dict(labels)["pool"] == name
    }


def operations(vitals):
    return {
        (dict(labels)["db_operation_name"], dict(labels)["error_type"]): value
        for labels, value in vitals.samples("db_client_operation_duration_seconds_count").items()
    }


def test_statements_and_ends_of_transactions(vitals, engine):
    """Each by its first word, many rows in one statement once, errors by the driver's own; and no text of any."""
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("-- first\nCREATE TABLE secrets (secret TEXT NOT NULL)"))
        insert = sqlalchemy.text("INSERT INTO secrets VALUES (:secret)")
        connection.execute(insert, [{"secret": "a"}, {"secret": "b"}])
        assert 2 == connection.scalar(sqlalchemy.text("SELECT count(*) FROM secrets"))
    with pytest.raises(sqlalchemy.exc.IntegrityError), engine.begin() as connection:
        connection.execute(insert, {"secret": None})
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("PRAGMA user_version"))

    counted = operations(vitals)
    rollbacks = counted.pop(("ROLLBACK", ""))
    assert {("CREATE", ""): 1, ("INSERT", ""): 1, ("SELECT", ""): 1, ("COMMIT", ""): 1, ("PRAGMA", ""): 1} | {
        ("INSERT", "IntegrityError"): 1
    } == counted
    assert rollbacks >= 2  # A connection that goes back to its pool is rolled back, too.
    assert "secret" not in str(vitals.samples("db_client_operation_duration_seconds_count"))
    assert 0 < vitals.value("db_client_operation_duration_seconds_sum", db_operation_name="INSERT") < 5


def test_nobody_counts_after_the_end(vitals, engine):
    """A statement that began before `uninstrument` and one after it count nothing, and work."""
    with engine.connect() as connection:
        llmvitals.uninstrument()
        before = operations(vitals)
        assert 1 == connection.scalar(sqlalchemy.text("SELECT 1"))

    assert before == operations(vitals)


def test_a_pool_under_its_own_name(vitals, engine):
    """Used, idle, the most there may be, the wait and the use."""
    with engine.connect() as connection:
        assert 1 == connection.scalar(sqlalchemy.text("SELECT 1"))
        assert {"used": 1, "idle": 0} == connections(vitals)
        with engine.connect():
            assert {"used": 2, "idle": 0} == connections(vitals)

    assert {"used": 0, "idle": 1} == connections(vitals)
    assert 2 == vitals.value("llmvitals_pool_max_connections", pool="main")
    assert 2 == vitals.value("llmvitals_pool_wait_seconds_count", pool="main")
    assert 0 == vitals.value("llmvitals_pool_pending_requests", pool="main")
    assert 2 == vitals.value("db_client_connection_use_time_seconds_count", db_client_connection_pool_name="main")


def test_a_full_pool_times_out_as_before(vitals, engine):
    """The wait for nothing is a wait."""
    with engine.connect(), engine.connect(), pytest.raises(sqlalchemy.exc.TimeoutError):
        engine.connect()

    assert 3 == vitals.value("llmvitals_pool_wait_seconds_count", pool="main")
    assert 0.01 < vitals.value("llmvitals_pool_wait_seconds_sum", pool="main")
    assert 0 == vitals.value("llmvitals_pool_pending_requests", pool="main")


def test_an_async_engine(vitals, tmp_path):
    """The same, under the name of those that have none; a statement counts once, not for aiosqlite, too."""
    pytest.importorskip("aiosqlite")
    from sqlalchemy.ext.asyncio import create_async_engine

    async def main():
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{tmp_path / 'database'}", poolclass=pool.AsyncAdaptedQueuePool
        )
        async with engine.begin() as connection:
            assert 1 == await connection.scalar(sqlalchemy.text("SELECT 1"))
            with pytest.raises(sqlalchemy.exc.OperationalError):
                await connection.execute(sqlalchemy.text("SELECT * FROM nothing"))
            seen = connections(vitals, "sqlalchemy")
        await engine.dispose()
        return seen

    assert {"used": 1, "idle": 0} == asyncio.run(main())
    counted = operations(vitals)
    assert (1, 1) == (counted["SELECT", ""], counted["SELECT", "OperationalError"])
    assert 1 == counted["COMMIT", ""]
    assert vitals.value("llmvitals_db_queue_wait_seconds_count", db_system_name="sqlite") >= 3


def test_pools_that_cannot_be_full_have_no_numbers(vitals):
    """A database in memory has one connection, for ever."""
    engine = sqlalchemy.create_engine("sqlite://", poolclass=pool.StaticPool)
    with engine.connect() as connection:
        assert 1 == connection.scalar(sqlalchemy.text("SELECT 1"))
    engine.dispose()

    assert {} == connections(vitals, "sqlalchemy")


def test_a_pool_that_is_gone_is_not_kept(vitals, tmp_path):
    """Its series go to zero."""
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'other'}", poolclass=pool.QueuePool)
    with engine.connect():
        assert {"used": 1, "idle": 0} == connections(vitals, "sqlalchemy")
    engine.dispose()
    del engine
    gc.collect()

    assert {"used": 0, "idle": 0} == connections(vitals, "sqlalchemy")


def test_a_fault_of_ours_stays_with_us(vitals, engine, monkeypatch):
    """The connection is had; the fault is counted."""
    from llmvitals.integrations import _sqlalchemy

    def broken(*args):
        raise RuntimeError("ours")

    monkeypatch.setattr(_sqlalchemy._Pools, "saw", broken)
    with engine.connect() as connection:
        assert 1 == connection.scalar(sqlalchemy.text("SELECT 1"))

    assert 1 == vitals.value("llmvitals_instrumentation_errors_total", component="sqlalchemy")


def test_uninstrument_restores_exactly(engine):
    """The very same function, no listener, no series."""
    before = vars(pool.Pool)["connect"]
    with llmvitals.testing.fresh() as vitals:
        assert "sqlalchemy" in llmvitals.instrument(vitals)
        with engine.connect():
            assert engine.pool.dispatch.checkout
        llmvitals.uninstrument()

        assert {} == connections(vitals)
    assert before is vars(pool.Pool)["connect"]
    assert not engine.pool.dispatch.checkout
    assert not engine.pool.dispatch.checkin


def test_uninstrument_leaves_what_the_application_listens_to():
    """SQLAlchemy goes on calling it."""
    from sqlalchemy.engine import Engine

    heard = []

    def listen(connection, *args):
        heard.append(connection)

    llmvitals.instrument()
    sqlalchemy.event.listen(Engine, "before_cursor_execute", listen)
    try:
        llmvitals.uninstrument()
        engine = sqlalchemy.create_engine("sqlite://")
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
        engine.dispose()
    finally:
        sqlalchemy.event.remove(Engine, "before_cursor_execute", listen)
        Engine._has_events = False

    assert 1 == len(heard)
