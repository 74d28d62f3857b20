"""The child of ``autopilot dev``: serves a bundle at a port that the parent holds, until SIGTERM.

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

from autopilot.api.app import create_context
from autopilot.bundle import Bundle, import_main, read_bundle
from autopilot.core.clock import SystemClock
from autopilot.core.recorder import reason_of
from autopilot.core.run_log import get_run_archive, reset_run_log_service
from autopilot.dashboard.app import create_app
from autopilot.development.first_screen import print_errors, print_first_screen
from autopilot.development.local_app import LocalApp, LocalFunction, local_functions
from autopilot.development.local_store import kept_in, require_local_store
from autopilot.development.scheduler import LocalScheduler
from autopilot.dispatch.deliveries import Deliveries
from autopilot.dispatch.local import Continuations
from autopilot.errors import ConfigurationError
from autopilot.observability import configure_logging, log_file_of
from autopilot.settings import Settings, load_settings
from autopilot.text import visible

_CONNECTIONS_END_WITHIN_SECONDS = 2


def main(arguments: list[str]) -> int:
    """Serve, and return the exit code."""
    source, listener = Path(arguments[0]), socket.socket(fileno=int(arguments[1]))
    console = Console(highlight=False)
    try:
        settings = load_settings()
        require_local_store(settings)
        module = import_main(source)
        bundle = read_bundle(vars(module))
    except ConfigurationError as error:
        console.print(Text(f"✘ {visible(str(error))}", style="red"), soft_wrap=True)
        return 1
    except Exception as error:  # noqa: BLE001 - the process boundary: an author's module may raise anything
        console.print(Text(f"✘ {source}: {visible(reason_of(error))}", style="red"), soft_wrap=True)
        return 1
    functions = local_functions(module, bundle)
    settings = settings.model_copy(update={"log_file": log_file_of(settings)})
    configure_logging(settings)
    host, port = listener.getsockname()
    url = f"http://{host}:{port}"
    if "first" in arguments[2:]:
        print_first_screen(
            console,
            functions,
            bundle.errors,
            url=url,
            asks_for_key=settings.api_key is not None,
            kept_in=kept_in(settings),
            log_file=str(log_file_of(settings)),
            environment=settings.environment,
            now=SystemClock().now(),
        )
    else:
        names = ", ".join(bundle.workflows)
        console.print(Text(f"served again: {names or 'no workflow'}", style="dim"), soft_wrap=True)
        print_errors(console, bundle.errors)
    asyncio.run(_serve(bundle, functions, settings, listener, url))
    return 0


async def _serve(
    bundle: Bundle, functions: list[LocalFunction], settings: Settings, listener: socket.socket, url: str
) -> None:
    names = {function.workflow.workflow_id: function.name for function in functions}
    # The API calls the functions at their addresses here, as it does in the cloud.
    urls = {workflow: f"{url}/{name}" for workflow, name in names.items()}
    context = create_context(
        [function.workflow for function in functions],
        settings.model_copy(update={"function_urls": urls}),
        bundle=bundle.folder,
    )
    app = LocalApp(functions, create_app(context), listener.getsockname()[1], settings.allowed_hosts)
    config = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_CONNECTIONS_END_WITHIN_SECONDS,
    )
    deliver, clock = Deliveries(app, url), SystemClock()
    _end_with_the_parent()
    # uvicorn sends itself the signal again once it has ended, for the handler that was there before: more has to end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    async with asyncio.TaskGroup() as loops:
        schedules = loops.create_task(LocalScheduler(deliver, clock).run(functions))
        continuations = loops.create_task(Continuations(names, get_run_archive, deliver, clock).run())
        await uvicorn.Server(config).serve(sockets=[listener])
        schedules.cancel()
        continuations.cancel()
    await deliver.settle()
    reset_run_log_service()


def _end_with_the_parent() -> None:
    """End this process when the pipe from the parent closes, which is when the parent ends."""

    def end() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        os.kill(os.getpid(), signal.SIGTERM)

    with suppress(ValueError, PermissionError):  # no pipe: started by hand
        asyncio.get_running_loop().add_reader(sys.stdin, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
