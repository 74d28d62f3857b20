"""API v1: reads the records of all workflows, and acts on runs through the workflows' own functions.

It runs no workflow itself: actions are HTTP calls of the function (:mod:`.workflow_client`). The dashboard stands beside
it, uses its reads and actions, and serves it: :mod:`autopilot.dashboard` imports this package, never the reverse.

Under ``/api/v1``; models in :mod:`.schemas`, times in RFC 3339, errors in the shape of every function::

    GET    /health                                   HealthReport; 503 with the same body when the store is away
    GET    /openapi.json                             the OpenAPI document
    GET    /workflows                                WorkflowPage
    GET    /workflows/{name}                         WorkflowDetail
    GET    /workflows/{name}/stats?window=7d         ActivityReport; 1h to 48h in hours, longer (to 400d) in days
    GET    /runs                                     RunPage, newest first: status, trigger, since, until, limit (1 to
    GET    /workflows/{name}/runs                    200, default 50), start_after (next_cursor of the page before)
    GET    /workflows/{name}/runs/{id}               RunDetail: the run, its attempts, its steps, what a retry does
    GET    /workflows/{name}/runs/{id}/step?key=     StepDetail with its whole result; key: key, id or readable key
    POST   /workflows/{name}/trigger                 the payload as the body -> RunAccepted
    POST   /workflows/{name}/runs/{id}/retry         {"again_interrupted": [keys]} or nothing -> RunAccepted
    POST   /workflows/{name}/runs/{id}/rerun         -> RunAccepted, of the new run
    POST   /workflows/{name}/runs/{id}/cancel        -> RunAccepted
    DELETE /workflows/{name}/runs/{id}               204
    GET    /events?workflow=&run=                    server-sent events: event "run", data RunSummary, id a position

A POST waits for the function's answer for ``Prefer: wait=<seconds>`` (default 5, at most 300). 200: the run is over,
however it ended. 202, with ``Location``: it is recorded as begun, and the function finishes it. If the function has not
recorded the start by then, as in a cold start, the answer waits for that, up to 30 s longer, and else is 502. So nothing
is left to do once the answer has been sent. A trigger and a rerun take an ``Idempotency-Key``.

Workflows that ``main.py`` no longer defines: their runs, steps, statistics and histories are served with
``"defined": false``. Runs can be deleted; the other actions need the function and are 409 ``workflow_not_defined``.

=====  ==========================================================================================================
401    ``unauthorized``: there is a key (``AUTOPILOT_API_KEY``) and the call does not have it
403    ``csrf_token_invalid``, ``origin_not_allowed``: a browser's write without the page's token, or cross-site
404    ``workflow_not_found``, ``run_not_found``, ``step_not_found``, ``not_found``
409    ``run_state_conflict``: the run's status does not allow it; ``workflow_not_defined``; ``steps_interrupted``:
       a retry would begin again what may have taken effect: details ``{"run_id", "steps": [readable keys]}``
413    ``payload_too_large``
415    ``not_json_content``, 400 ``invalid_json``: the body is not JSON; 400 ``invalid_retry``
422    ``request_invalid``, ``cursor_invalid``; ``payload_invalid``, ``payload_conflict``, from the function
429    ``too_many_wrong_keys``
502    ``function_unavailable``: the workflow's function does not answer, or not as a workflow's function
503    ``store_unavailable``; ``start_not_recorded`` and the like, from the function
=====  ==========================================================================================================

Signals and the pausing of workflows will be ``POST /workflows/{name}/runs/{id}/signals/{signal}``,
``POST /workflows/{name}/pause`` and ``/resume``: beside the other actions.
"""
