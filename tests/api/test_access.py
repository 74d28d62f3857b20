"""Who may call, with a key and without."""

import asyncio
from datetime import timedelta

import httpx
import pytest

from autopilot.api.access import CSRF_FIELD, SESSION_LENGTH, WRONG_KEY_SECONDS, WRONG_KEYS_AT_ONCE
from autopilot.testing import ManualClock
from tests.api_client import ApiOver
from tests.functions_by_name import FunctionsTransport
from tests.functions_in_process import assert_error
from tests.log_events import Events, named
from tests.run_logs import until

pytestmark = [
    pytest.mark.parametrize("store", ("sqlite in memory",), indirect=True),
    pytest.mark.usefixtures("process_store"),
]

KEY = "correct horse battery staple"
TRIGGER = "/api/v1/workflows/echo/trigger"


@pytest.fixture
def public(api_over: ApiOver, clock: ManualClock) -> httpx.AsyncClient:
    """An API that whoever knows the key may call, as a browser sees it."""
    client = api_over(clock=clock, AUTOPILOT_API_KEY=KEY)
    client.base_url = httpx.URL("https://api.example")  # a secure cookie goes to https alone
    return client


@pytest.fixture
def private(api_over: ApiOver) -> httpx.AsyncClient:
    return api_over()


def token_in(page: httpx.Response) -> str:
    return page.text.split(f'name="{CSRF_FIELD}" value="')[1].split('"')[0]


async def sign_in(client: httpx.AsyncClient, key: str = KEY, wanted: str = "/runs") -> httpx.Response:
    page = await client.get("/sign-in", params={"next": wanted})
    return await client.post("/sign-in", data={"key": key, "next": wanted, CSRF_FIELD: token_in(page)})


async def test_with_a_key_every_call_of_the_api_needs_it(public: httpx.AsyncClient) -> None:
    for path in ("/workflows", "/runs", "/health", "/openapi.json", "/events", "/nothing"):
        assert_error(await public.get(f"/api/v1{path}"), 401, "unauthorized")
    assert_error(await public.post(TRIGGER), 401, "unauthorized")

    known = await public.get("/api/v1/workflows", headers={"X-API-Key": KEY})

    assert known.status_code == 200


async def test_a_program_with_the_key_writes_without_a_token(public: httpx.AsyncClient) -> None:
    answer = await public.post(TRIGGER, headers={"X-API-Key": KEY})

    assert answer.status_code == 200


@pytest.mark.parametrize("wrong", ("", "correct horse", KEY + " ", "\u00e4".encode()))
async def test_a_wrong_key_is_refused_slowly_and_logged(
    public: httpx.AsyncClient, clock: ManualClock, events: Events, wrong: str
) -> None:
    assert_error(await public.get("/api/v1/runs", headers={"X-API-Key": wrong}), 401, "unauthorized")

    assert clock.slept == [WRONG_KEY_SECONDS]
    assert named(events, "api_key_refused") == [{"log_level": "warning"}]


class HeldClock(ManualClock):
    """Nobody's sleep ends before the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeping = 0
        self.may_end = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.sleeping += 1
        await self.may_end.wait()


async def test_wrong_keys_never_fill_the_instance_and_the_right_one_still_opens_it(api_over: ApiOver) -> None:
    held = HeldClock()
    client = api_over(clock=held, AUTOPILOT_API_KEY=KEY)
    client.base_url = httpx.URL("https://api.example")
    wrong = {"X-API-Key": "x" * 32}
    slowed = [asyncio.ensure_future(client.get("/api/v1/runs", headers=wrong)) for _ in range(WRONG_KEYS_AT_ONCE)]
    await until(lambda: held.sleeping == WRONG_KEYS_AT_ONCE)

    assert_error(await client.get("/api/v1/runs", headers=wrong), 429, "too_many_wrong_keys")
    assert "Too many wrong keys" in (await sign_in(client, "wrong")).text
    assert (await client.get("/api/v1/runs", headers={"X-API-Key": KEY})).status_code == 200

    held.may_end.set()
    assert {answer.status_code for answer in await asyncio.gather(*slowed)} == {401}
    assert_error(await client.get("/api/v1/runs", headers=wrong), 401, "unauthorized")


async def test_the_key_in_a_url_opens_nothing(public: httpx.AsyncClient) -> None:
    for name in ("key", "api_key", "X-API-Key"):
        assert_error(await public.get("/api/v1/runs", params={name: KEY}), 401, "unauthorized")


async def test_a_browser_is_sent_to_sign_in_and_back(public: httpx.AsyncClient) -> None:
    sent = await public.get("/workflows/echo?window=30d")
    there = sent.next_request
    assert (sent.status_code, there and there.url.path) == (303, "/sign-in")
    assert there is not None

    back = await sign_in(public, wanted=there.url.params["next"])

    assert back.status_code == 303
    assert back.next_request is not None
    assert back.next_request.url.raw_path == b"/workflows/echo?window=30d"
    assert (await public.get("/workflows/echo")).status_code == 200


async def test_the_session_s_cookie_is_kept_from_scripts_other_sites_and_plain_connections(
    public: httpx.AsyncClient,
) -> None:
    cookie = (await sign_in(public)).headers["set-cookie"]

    assert cookie.startswith("__Host-autopilot=")
    assert {"HttpOnly", "Secure", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert KEY not in cookie


async def test_signing_in_with_a_wrong_key_is_slow_and_opens_nothing(
    public: httpx.AsyncClient, clock: ManualClock
) -> None:
    refused = await sign_in(public, "wrong")

    assert (refused.status_code, clock.slept) == (401, [WRONG_KEY_SECONDS])
    assert "That is not the key" in refused.text
    assert (await public.get("/")).status_code == 303


async def test_signing_in_gives_a_new_session(public: httpx.AsyncClient) -> None:
    await public.get("/sign-in")
    before = dict(public.cookies)

    await sign_in(public)

    assert dict(public.cookies) != before


@pytest.mark.parametrize(
    "wanted", ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)")
)
async def test_nobody_is_sent_elsewhere_after_signing_in(public: httpx.AsyncClient, wanted: str) -> None:
    back = await sign_in(public, wanted=wanted)

    assert back.next_request is not None
    assert back.next_request.url == "https://api.example/"


async def test_a_session_ends(public: httpx.AsyncClient, clock: ManualClock) -> None:
    await sign_in(public)
    clock.advance(SESSION_LENGTH - timedelta(seconds=2))
    assert (await public.get("/")).status_code == 200

    clock.advance(timedelta(seconds=2))

    assert (await public.get("/")).status_code == 303
    assert_error(await public.get("/api/v1/runs"), 401, "unauthorized")


async def test_a_form_of_a_session_that_has_ended_leads_to_signing_in_and_back_to_its_page(
    public: httpx.AsyncClient, clock: ManualClock, functions: FunctionsTransport
) -> None:
    await sign_in(public)
    clock.advance(SESSION_LENGTH)

    sent = await public.post("/workflows/echo/runs/a/retry")

    assert sent.next_request is not None
    assert sent.next_request.url.params["next"] == "/workflows/echo/runs/a"
    assert "session has ended" in (await public.send(sent.next_request)).text
    assert functions.requests == []


@pytest.mark.parametrize(
    "tampered", ("{nonce}-9999999999.{signature}", "{nonce}-9999999999", "{nonce}", "", "x" * 5000)
)
async def test_a_session_that_we_did_not_sign_opens_nothing(public: httpx.AsyncClient, tampered: str) -> None:
    await sign_in(public)
    (name,) = public.cookies
    value, _, signature = str(public.cookies[name]).rpartition(".")
    forged = tampered.format(nonce=value.partition("-")[0], signature=signature)

    public.cookies.clear()

    assert (await public.get("/", headers={"Cookie": f"{name}={forged}"})).status_code == 303


async def test_another_key_ends_the_sessions_of_the_old_one(public: httpx.AsyncClient, api_over: ApiOver) -> None:
    await sign_in(public)
    renewed = api_over(AUTOPILOT_API_KEY="another key, as long")
    renewed.base_url, renewed.cookies = public.base_url, public.cookies

    assert (await renewed.get("/")).status_code == 303


async def test_signing_out_ends_the_session_in_the_browser(public: httpx.AsyncClient) -> None:
    await sign_in(public)
    page = await public.get("/runs")

    await public.post("/sign-out", data={CSRF_FIELD: token_in(page)})

    assert (await public.get("/runs")).status_code == 303


async def test_signing_out_ends_the_session_wherever_its_cookie_was_copied_to(
    public: httpx.AsyncClient, api_over: ApiOver, clock: ManualClock
) -> None:
    await sign_in(public)
    thief = api_over(clock=clock, AUTOPILOT_API_KEY=KEY)  # at another instance
    thief.base_url = public.base_url
    thief.cookies.update(public.cookies)
    page = await thief.get("/runs")
    assert page.status_code == 200

    await public.post("/sign-out", data={CSRF_FIELD: token_in(page)})

    assert (await thief.get("/runs")).status_code == 303
    assert_error(await thief.get("/api/v1/runs"), 401, "unauthorized")
    assert_error(await thief.post(TRIGGER, headers={"X-CSRF-Token": token_in(page)}), 401, "unauthorized")
    await sign_in(public)
    assert (await public.get("/runs")).status_code == 200


@pytest.mark.parametrize(
    "path", ("/runs/", "//runs/", "/workflows/echo/", "/static", "/sign-in/", "/api", "/api/v1", "//")
)
async def test_no_redirect_leads_to_the_host_that_a_request_names(
    public: httpx.AsyncClient, private: httpx.AsyncClient, path: str
) -> None:
    await sign_in(public)
    for client, host in ((public, "evil.example"), (private, "localhost:1234")):
        answer = await client.get(path, headers={"Host": host})

        assert host not in answer.headers.get("location", "")
        assert not answer.headers.get("location", "").startswith(("http:", "https:", "//"))


@pytest.mark.parametrize("host", ("[", "evil.example/runs", "a b", "a@b", "a?b=", "a:b"))
@pytest.mark.parametrize("path", ("/", "/sign-in", "/static/dashboard.css", "/api/v1/runs", "/runs"))
async def test_a_host_that_cannot_be_parsed_is_refused(
    public: httpx.AsyncClient, private: httpx.AsyncClient, path: str, host: str
) -> None:
    for client in (public, private):
        assert_error(await client.get(path, headers={"Host": host}), 400, "invalid_host")


async def test_without_a_key_the_settings_add_hosts(api_over: ApiOver) -> None:
    client = api_over(AUTOPILOT_ALLOWED_HOSTS="runs.example")

    assert (await client.get("/api/v1/runs", headers={"Host": "runs.example:8443"})).status_code == 200
    assert_error(await client.get("/api/v1/runs", headers={"Host": "evil.example"}), 403, "host_not_allowed")


# Writes from browsers


@pytest.fixture(params=("private", "public"))
async def browser(request: pytest.FixtureRequest) -> httpx.AsyncClient:
    """A browser that may look at the dashboard."""
    client: httpx.AsyncClient = request.getfixturevalue(request.param)
    if request.param == "public":
        await sign_in(client)
    client.headers["Sec-Fetch-Site"] = "same-origin"
    return client


async def test_a_write_from_a_page_of_ours_is_done(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/workflows/echo/trigger?as=json")

    by_form = await browser.post("/workflows/echo/trigger", data={"payload": "{}", CSRF_FIELD: token_in(page)})
    by_script = await browser.post(TRIGGER, headers={"X-CSRF-Token": token_in(page)})

    assert by_form.status_code == 303
    assert by_script.status_code == 200


@pytest.mark.parametrize("token", (None, "", "0" * 64))
async def test_a_write_without_its_page_s_token_is_refused(
    browser: httpx.AsyncClient, token: str | None, functions: FunctionsTransport
) -> None:
    await browser.get("/")
    field = {} if token is None else {CSRF_FIELD: token}
    header = {} if token is None else {"X-CSRF-Token": token}

    by_form = await browser.post("/workflows/echo/trigger", data={"payload": "{}", **field})
    by_script = await browser.post(TRIGGER, headers=header)

    assert by_form.status_code == 403
    assert_error(by_script, 403, "csrf_token_invalid")
    assert functions.requests == []


async def test_a_token_of_another_session_is_refused(browser: httpx.AsyncClient, private: httpx.AsyncClient) -> None:
    other = httpx.AsyncClient(transport=private._transport, base_url=private.base_url)
    token = token_in(await other.get("/workflows/echo/trigger"))

    assert_error(await browser.post(TRIGGER, headers={"X-CSRF-Token": token}), 403, "csrf_token_invalid")


@pytest.mark.parametrize("site", ("cross-site", "same-site"))
async def test_a_write_from_another_site_is_refused_whatever_it_carries(browser: httpx.AsyncClient, site: str) -> None:
    token = token_in(await browser.get("/workflows/echo/trigger"))

    answer = await browser.post(TRIGGER, headers={"X-CSRF-Token": token, "Sec-Fetch-Site": site})

    assert_error(answer, 403, "origin_not_allowed")


async def test_without_a_key_on_this_machine_only_its_own_names_are_answered(private: httpx.AsyncClient) -> None:
    rebound = await private.get("/api/v1/runs", headers={"Host": "evil.example"})

    assert_error(rebound, 403, "host_not_allowed")
    assert (await private.get("/api/v1/runs", headers={"Host": "127.0.0.1:8080"})).status_code == 200


# Headers


@pytest.mark.parametrize("path", ("/", "/sign-in", "/api/v1/runs", "/static/dashboard.css", "/nothing"))
async def test_every_answer_tells_browsers_to_run_nothing_foreign(private: httpx.AsyncClient, path: str) -> None:
    headers = (await private.get(path)).headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in policy


async def test_only_in_the_cloud_browsers_are_bound_to_https(private: httpx.AsyncClient, api_over: ApiOver) -> None:
    deployed = api_over(K_SERVICE="api", AUTOPILOT_STORE="firestore", GOOGLE_CLOUD_PROJECT="p")

    answers = [(await client.get("/static/dashboard.css")).headers for client in (private, deployed)]

    assert [headers.get("strict-transport-security") for headers in answers] == [None, "max-age=31536000"]


@pytest.mark.parametrize(
    ("path", "expected"),
    (
        ("/static/dashboard.css", "public, max-age=31536000, immutable"),
        ("/static/of-the-next-version.css", "no-store"),
        ("/static/../../access.py", "no-store"),
        ("/static", "no-store"),
        ("/", "no-store"),
        ("/sign-in", "no-store"),
        ("/api/v1/runs", "no-store"),
    ),
)
async def test_a_browser_keeps_static_files_and_no_records(
    private: httpx.AsyncClient, path: str, expected: str
) -> None:
    assert (await private.get(path)).headers["cache-control"] == expected


async def test_no_origin_is_let_in_unless_it_is_listed(private: httpx.AsyncClient, api_over: ApiOver) -> None:
    listing = api_over(AUTOPILOT_API_CORS_ORIGINS="https://ops.example, https://other.example")
    asked = {"Origin": "https://ops.example"}

    assert "access-control-allow-origin" not in (await private.get("/api/v1/runs", headers=asked)).headers
    allowed = (await listing.get("/api/v1/runs", headers=asked)).headers
    assert allowed["access-control-allow-origin"] == "https://ops.example"
    assert "access-control-allow-credentials" not in allowed
    refused = (await listing.get("/api/v1/runs", headers={"Origin": "https://evil.example"})).headers
    assert "access-control-allow-origin" not in refused


# What docs/api.md lets a page of another origin send, written down here once more.
CORS_REQUEST_HEADERS = ("Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-API-Key")
CORS_METHODS = {"GET", "POST", "DELETE"}


@pytest.fixture
def listed(api_over: ApiOver) -> httpx.AsyncClient:
    """An API that a page of https://ops.example may call with the key."""
    client = api_over(AUTOPILOT_API_CORS_ORIGINS="https://ops.example", AUTOPILOT_API_KEY=KEY)
    client.headers["Origin"] = "https://ops.example"
    return client


@pytest.mark.parametrize("header", CORS_REQUEST_HEADERS)
async def test_a_page_of_a_listed_origin_may_send_each_header_of_the_api(
    listed: httpx.AsyncClient, header: str
) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": header.lower()}

    answer = await listed.options(TRIGGER, headers=asked)

    assert answer.status_code == 200
    assert header in answer.headers["access-control-allow-headers"].split(", ")


async def test_a_page_of_a_listed_origin_may_use_the_methods_of_the_api_and_no_other(listed: httpx.AsyncClient) -> None:
    answer = await listed.options(TRIGGER, headers={"Access-Control-Request-Method": "POST"})
    refused = await listed.options(TRIGGER, headers={"Access-Control-Request-Method": "PUT"})

    assert set(answer.headers["access-control-allow-methods"].split(", ")) == CORS_METHODS
    assert refused.status_code == 400


async def test_a_page_of_a_listed_origin_may_not_send_other_headers(listed: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-csrf-token"}

    assert_error(await listed.options(TRIGGER, headers=asked), 400, "bad_request")


async def test_a_page_of_a_listed_origin_can_read_where_its_run_is(listed: httpx.AsyncClient) -> None:
    answer = await listed.post(TRIGGER, headers={"X-API-Key": KEY})

    assert answer.headers["access-control-expose-headers"] == "Location"
