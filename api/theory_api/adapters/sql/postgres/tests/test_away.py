"""A server that turns connections away is unavailable, to readers as to the writer."""

from __future__ import annotations

from theory_api.adapters.sql.postgres.read import read_only
from theory_api.adapters.sql.read import SqlReads
from theory_api.adapters.tests.conftest import refused


async def test_a_reader_that_the_server_turns_away_says_unavailable_with_its_code(url: str) -> None:
    """As while it starts up or shuts down (57P03), which a test cannot hold still: 3D000."""
    read = SqlReads(read_only(url + "-absent"))
    error = await refused("ERR_UNAVAILABLE", read.plans())
    assert error.detail == {"reason": "3D000"}
    assert "no such database" in error.message
    await read.close()
