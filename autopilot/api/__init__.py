"""API v1 and the dashboard: one more function, which looks at the records of all workflows and acts through theirs.

It runs no workflow. What acts is handed to the workflow's own function over HTTP (:mod:`.workflow_client`).

API v1, under ``/api/v1``; models in :mod:`.schemas`, times in RFC 3339, errors in the shape of every function::

    GET    /health                                   HealthReport; 503 with the same body when the store is away
    GET    /openapi.json                             the document
    GET    /workflows                                WorkflowPage
    GET    /workflows/{name}                         WorkflowDetail
    GET    /workflows/{name}/stats?window=7d         ActivityReport; 1h to 48h in hours, longer (to 400d) in days
    GET    /runs                                     RunPage, newest first: status, trigger, since, until, limit (1 to
    GET    /workflows/{name}/runs                    200, default 50), start_after (next_cursor of the page before)
    GET    /workflows/{name}/runs/{id}               RunDetail: the run, its attempts, its steps
    GET    /workflows/{name}/runs/{id}/step?key=     StepDetail with its whole result
    POST   /workflows/{name}/trigger                 the payload as the body -> RunAccepted
    POST   /workflows/{name}/runs/{id}/retry         -> RunAccepted
    POST   /workflows/{name}/runs/{id}/rerun         -> RunAccepted, of the new run
    POST   /workflows/{name}/runs/{id}/cancel        -> RunAccepted
    DELETE /workflows/{name}/runs/{id}               204
    GET    /events?workflow=&run=                    server-sent events: event "run", data RunSummary, id a position

A POST waits for the function's answer, at most ``Prefer: wait=<seconds>`` (default 5, at most 300): 200 when the run is
over, however it ended, 202 with ``Location`` when it goes on. A trigger and a rerun take an ``Idempotency-Key``.

=====  ==========================================================================================================
401    ``unauthorized``: there is a key (``AUTOPILOT_API_KEY``) and the call came without it
403    ``csrf_token_invalid``, ``origin_not_allowed``: a browser's write without the page's token, or from elsewhere
404    ``workflow_not_found``, ``run_not_found``, ``step_not_found``, ``not_found``
409    ``run_state_conflict``: what was asked does not go with the run's status
413    ``payload_too_large``
415    ``not_json_content``, 400 ``invalid_json``: the payload of a trigger
422    ``request_invalid``, ``cursor_invalid``; ``payload_invalid``, ``payload_conflict`` as the function says them
502    ``function_unavailable``: the workflow's function did not answer, or not as a function of ours does
503    ``store_unavailable``; ``start_not_recorded`` and the like, as the function says them
=====  ==========================================================================================================

Signals and the pausing of workflows will be ``POST /workflows/{name}/runs/{id}/signals/{signal}``,
``POST /workflows/{name}/pause`` and ``/resume``: beside the other actions.
"""
