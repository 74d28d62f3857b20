"""A function without Autopilot: it reads one document."""

import functions_framework.aio
from google.cloud.firestore import AsyncClient
from starlette.requests import Request


@functions_framework.aio.http
async def bare(request: Request) -> dict[str, bool]:
    found = await AsyncClient().collection("runs").document("one").get()
    return {"found": found.exists}
