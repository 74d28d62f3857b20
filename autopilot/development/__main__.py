"""The child of ``autopilot dev``: serves a bundle at a port that the parent holds, until it is told to end.

python -m autopilot.development SOURCE FILE_DESCRIPTOR [first]
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn
from rich.console import Console
from rich.text import Text

from autopilot.api.app import create_app
from autopilot.core.clock import SystemClock
from autopilot.core.run_log import get_run_archive, reset_run_log_service
from autopilot.development.bundle_functions import LoadedBundle, load_bundle
from autopilot.development.deliveries import Deliveries
from autopilot.development.first_screen import print_faults, print_first_screen
from autopilot.development.local_app import LocalApp
from autopilot.development.local_store import describe_store, require_local_store
from autopilot.development.scheduler import LocalScheduler
from autopilot.dispatch.local import Continuations
from autopilot.errors import SettingsInvalid
from autopilot.observability import configure_logging, log_file_of
from autopilot.settings import Settings, load_settings

_CONNECTIONS_END_WITHIN_SECONDS = 2


def main(arguments: list[str]) -> int:
    """Serve; gives the exit code."""
    source, listener = Path(arguments[0]), socket.socket(fileno=int(arguments[1]))
    console = Console(highlight=False)
    try:
        settings = load_settings()
        require_local_store(settings)
        bundle = load_bundle(source)
    except SettingsInvalid as error:
        console.print(Text(f"✘ {error}", style="red"), soft_wrap=True)
        return 1
    except Exception as error:  # noqa: BLE001 - the process boundary: what the author's module raises is told, not known
        console.print(Text(f"✘ {source}: {type(error).__name__}: {error}", style="red"), soft_wrap=True)
        return 1
    settings = settings.model_copy(update={"log_file": log_file_of(settings)})
    configure_logging(settings)
    host, port = listener.getsockname()
    url = f"http://{host}:{port}"
    _tell(console, bundle, settings, url, is_first="first" in arguments[2:])
    asyncio.run(_serve(bundle, settings, listener, url))
    return 0


def _tell(console: Console, bundle: LoadedBundle, settings: Settings, url: str, *, is_first: bool) -> None:
    if is_first:
        print_first_screen(
            console,
            bundle,
            url=url,
            asks_for_key=settings.api_key is not None,
            kept_in=describe_store(settings),
            log_file=str(log_file_of(settings)),
            environment=settings.environment,
            now=SystemClock().now(),
        )
        return
    names = ", ".join(function.name for function in bundle.functions)
    console.print(Text(f"served again: {names or 'no workflow'}", style="dim"), soft_wrap=True)
    print_faults(console, bundle)


async def _serve(bundle: LoadedBundle, settings: Settings, listener: socket.socket, url: str) -> None:
    # The API asks the functions at their addresses here, as it does in the cloud.
    urls = {function.workflow.workflow_id: f"{url}/{function.name}" for function in bundle.functions}
    api = create_app(
        [function.workflow for function in bundle.functions],
        settings.model_copy(update={"function_urls": urls}),
        bundle=bundle.folder,
    )
    app = LocalApp(bundle.functions, api, listener.getsockname()[1])
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_CONNECTIONS_END_WITHIN_SECONDS,
    )
    deliver, clock = Deliveries(app, url), SystemClock()
    names = {function.workflow.workflow_id: function.name for function in bundle.functions}
    loops = [
        asyncio.create_task(LocalScheduler(deliver, clock).run(bundle.functions)),
        asyncio.create_task(Continuations(names, get_run_archive, deliver, clock).run()),
    ]
    _end_with_the_parent()
    # uvicorn sends itself the signal again when it has ended, for whoever was there before it: there is more to end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    await uvicorn.Server(config).serve(sockets=[listener])
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
    await deliver.settle()
    reset_run_log_service()


def _end_with_the_parent() -> None:
    """The pipe from the parent says nothing, and ends when the parent does."""

    def end() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        os.kill(os.getpid(), signal.SIGTERM)

    with suppress(ValueError, PermissionError):  # no pipe: started by hand
        asyncio.get_running_loop().add_reader(sys.stdin, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
