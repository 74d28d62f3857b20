"""A function without Autopilot: it reads one row."""

import os
import sqlite3
from contextlib import closing

import functions_framework.aio
from starlette.requests import Request


@functions_framework.aio.http
async def bare(request: Request) -> dict[str, bool]:
    with closing(sqlite3.connect(os.environ["AUTOPILOT_SQLITE_PATH"])) as connection:
        found = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return {"found": found is not None}
