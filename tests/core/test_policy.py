"""The pure rules: how records follow each other, what is the same trigger, what fits, who is let in."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

import pytest
from hypothesis import assume, given, strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import TypeVar

from autopilot import BaseWorkflow, RunStatus, Schedule, Trigger, TriggerType, WorkflowManifest, WorkflowRun
from autopilot.core.runs.cursor import RunPosition, decode_cursor, encode_cursor
from autopilot.core.runs.identity import payload_hash, run_id_of
from autopilot.core.runs.limits import ERROR_LIMIT, cut_error, json_text, text_of
from autopilot.core.runs.schema import WorkflowSchema, type_arguments
from autopilot.core.runs.transitions import count_changes, replaces, stats_of
from autopilot.core.store import RunFilter
from autopilot.core.triggers.admission import skip_reason
from autopilot.errors import CursorInvalid, RunSuperseded, WorkflowInvalid
from autopilot.models import is_run_id
from tests.runs import MakeRun

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATUSES = st.sampled_from(RunStatus)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


DATES = st.datetimes(timezones=st.just(UTC))
DIGESTS = RunFilter(workflow_id="digest")
LIST = ["digest", None, None, None, None]
"""How a cursor names the list of :data:`DIGESTS`."""


class TestTransitions:
    def test_a_run_that_is_not_stored_is_written(self, make_run: MakeRun) -> None:
        assert replaces(make_run(), None)

    def test_the_same_record_changes_nothing(self, make_run: MakeRun) -> None:
        run = make_run()

        assert not replaces(run, run.model_copy())

    @pytest.mark.parametrize("before", RunStatus)
    @pytest.mark.parametrize("after", RunStatus)
    def test_only_a_new_attempt_reopens_a_terminal_run(
        self, make_run: MakeRun, before: RunStatus, after: RunStatus
    ) -> None:
        stored = make_run(status=before)
        run = stored.model_copy(update={"status": after})
        retried = run.model_copy(update={"attempt": 2})

        assert replaces(run, stored) == (before != after and not (before.is_terminal and not after.is_terminal))
        assert replaces(retried, stored)
        with pytest.raises(RunSuperseded, match="attempt 1 was superseded by attempt 2"):
            replaces(stored, retried)

    @given(st.lists(st.one_of(st.none(), STATUSES), max_size=30))
    def test_moves_of_one_run_count_it_under_its_last_status(self, path: list[RunStatus | None]) -> None:
        counts = dict.fromkeys(RunStatus, 0)
        for before, after in zip([None, *path], path, strict=False):
            for status, by in count_changes(before, after).items():
                counts[status] += by

        last = path[-1] if path else None
        assert counts == {status: int(status is last) for status in RunStatus}

    def test_statistics_leave_out_the_skipped(self) -> None:
        by_status = {"success": 3, "failed": 2, "skipped": 5, "running": 1, "cancelled": 0}

        assert stats_of(by_status) == {
            "total": 6,
            "successful": 3,
            "by_status": {"success": 3, "failed": 2, "skipped": 5, "running": 1},
        }
        assert stats_of({}) == {"total": 0, "successful": 0, "by_status": {}}


class TestCursors:
    @given(
        st.datetimes(timezones=st.just(UTC)), st.builds(RunFilter, status=STATUSES | st.none(), until=st.none() | DATES)
    )
    def test_they_come_back_as_the_place_they_stand_for(self, started_at: datetime, wanted: RunFilter) -> None:
        assume(wanted.until is None or started_at < wanted.until)
        place = RunPosition(started_at, "digest", "run-1")

        assert decode_cursor(encode_cursor(_run(started_at), wanted), wanted) == place

    @given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
    def test_any_other_text_is_refused(self, text: str) -> None:
        with pytest.raises(CursorInvalid):
            decode_cursor(text, DIGESTS)

    @pytest.mark.parametrize(
        "fields",
        (
            [],
            None,
            [LIST, "0", "digest", "run-1"],
            [LIST, True, "digest", "run-1"],
            [LIST, 10**30, "digest", "run-1"],
            [LIST, 0, "digest", "../x"],
            [LIST, 0, "../x", "run-1"],
            [LIST, 0, ["digest"], "run-1"],
            [LIST, 0, "digest", "run-1", "more"],
        ),
    )
    def test_one_with_other_contents_is_refused(self, fields: Any) -> None:
        with pytest.raises(CursorInvalid, match="not one that a list of runs gave"):
            decode_cursor(_as_cursor(fields), DIGESTS)

    def test_one_of_another_list_is_refused(self) -> None:
        wanted = RunFilter(workflow_id="digest", status=RunStatus.FAILED, since=NOW)
        cursor = encode_cursor(_run(NOW), wanted)

        for other in (
            replace(wanted, workflow_id="other"),
            replace(wanted, workflow_id=None),
            replace(wanted, status=RunStatus.SUCCESS),
            replace(wanted, trigger_type=TriggerType.HTTP),
            replace(wanted, since=None),
            replace(wanted, until=NOW + timedelta(days=1)),
        ):
            with pytest.raises(CursorInvalid, match="belongs to another list"):
                decode_cursor(cursor, other)
        with pytest.raises(CursorInvalid, match="too long"):
            decode_cursor("A" * 100_000, wanted)

    @pytest.mark.parametrize(
        "place", ((10**6, "other", "run-1"), (0, "digest", "run-1"), (2 * 10**6, "digest", "run-1")), ids=str
    )
    def test_a_place_outside_of_its_list_is_refused(self, place: tuple[Any, ...]) -> None:
        begin = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
        wanted = RunFilter(workflow_id="digest", since=begin, until=begin + timedelta(seconds=1))
        forged = _as_cursor([["digest", None, None, 10**6, 2 * 10**6], *place])

        with pytest.raises(CursorInvalid, match="belongs to another list"):
            decode_cursor(forged, wanted)


def _as_cursor(fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


def _run(started_at: datetime) -> WorkflowRun:
    return WorkflowRun.model_validate(
        {"id": "run-1", "workflow_id": "digest", "status": "success", "trigger_type": "http", "started_at": started_at}
    )


class TestIdentity:
    @given(st.text(min_size=1))
    def test_any_identity_gives_an_id_of_a_run_and_always_the_same(self, identity: str) -> None:
        assert is_run_id(run_id_of("digest", identity))
        assert run_id_of("digest", identity) == run_id_of("digest", identity) != run_id_of("other", identity)

    @given(st.dictionaries(st.text(), JSON))
    def test_a_payloads_digest_is_that_of_its_json_whatever_the_order(self, payload: dict[str, Any]) -> None:
        assert payload_hash(payload) == payload_hash(dict(reversed(payload.items())))
        assert payload_hash(payload) == payload_hash(json.loads(json.dumps(payload)))
        assert payload_hash(payload) != payload_hash({"payload": payload})

    def test_keys_that_are_not_text_are_those_of_its_json(self) -> None:
        assert payload_hash({1: "a", "b": None}) == payload_hash({"b": None, "1": "a"})


class TestLimits:
    @given(JSON)
    def test_json_comes_back(self, value: Any) -> None:
        assert json.loads(json_text(value)) == value

    @given(st.text(alphabet=st.characters(), min_size=0, max_size=50), st.integers(0, 12_000))
    def test_an_error_always_fits_and_is_always_unicode(self, text: str, more: int) -> None:
        cut = cut_error("ü" * more + text)

        assert len(cut.encode()) <= ERROR_LIMIT

    def test_a_short_error_is_left_alone(self) -> None:
        assert cut_error("no feed\n") == "no feed\n"
        assert text_of(ValueError("no feed")) == "no feed"

    def test_an_error_of_pydantic_does_not_quote_what_was_validated(self) -> None:
        with pytest.raises(ValidationError) as refused:
            TypeAdapter(int).validate_python("s3cret")

        for error in (refused.value, RuntimeError(f"bad answer: {refused.value}")):
            assert "s3cret" in str(error)
            assert "s3cret" not in text_of(error)
            assert "Input should be a valid integer" in text_of(error)


class TestAdmission:
    LATE = Trigger(schedule="hourly", scheduled_for=NOW - timedelta(minutes=10))

    def test_a_disabled_workflow_lets_nothing_in(self) -> None:
        skip = skip_reason(WorkflowManifest(name="digest", enabled=False), Trigger(), NOW)

        assert skip is not None
        assert skip.kind == "WorkflowDisabled"

    @pytest.mark.parametrize(
        ("schedules", "trigger", "kind"),
        (
            ((), LATE, None),
            ((Schedule(name="hourly", cron="0 * * * *"),), LATE, None),
            ((Schedule(name="hourly", cron="0 * * * *", max_lateness=timedelta(minutes=9)),), LATE, "TooLate"),
            ((Schedule(name="hourly", cron="0 * * * *", max_lateness=timedelta(minutes=10)),), LATE, None),
            ((Schedule(name="daily", cron="0 0 * * *", max_lateness=timedelta(minutes=9)),), LATE, None),
            (
                (Schedule(name="daily", cron="0 0 * * *", max_lateness=timedelta(minutes=9)),),
                LATE.model_copy(update={"schedule": None}),
                "TooLate",
            ),
            (
                (Schedule(name="hourly", cron="0 * * * *", max_lateness=timedelta(minutes=9)),),
                Trigger(schedule="hourly"),
                None,
            ),
        ),
    )
    def test_a_tick_is_too_late_by_its_own_schedule(
        self, schedules: tuple[Schedule, ...], trigger: Trigger, kind: str | None
    ) -> None:
        manifest = WorkflowManifest(name="digest", schedules=schedules)

        skip = skip_reason(manifest, trigger, NOW)

        assert (skip.kind if skip else None) == kind


class Word(BaseModel):
    word: str


P = TypeVar("P", default=dict[str, Any])


class TestSchema:
    def test_types_are_those_of_the_nearest_base(self) -> None:
        class Typed(BaseWorkflow[Word, int]): ...

        class Inherited(Typed): ...

        class Plain(BaseWorkflow): ...

        class Half(BaseWorkflow[Word]): ...

        class Between(BaseWorkflow[P, str], Generic[P]): ...

        class Leaf(Between[Word]): ...

        def types(cls: type) -> tuple[Any, ...]:
            return type_arguments(cls, BaseWorkflow, (dict[str, Any], Any))

        assert types(Typed) == types(Inherited) == (Word, int)
        assert types(Plain) == (dict[str, Any], Any)
        assert types(Half) == (Word, Any)
        assert types(Leaf) == (Word, str)

    def test_a_type_that_pydantic_cannot_take_is_told(self) -> None:
        class Opaque: ...

        with pytest.raises(WorkflowInvalid, match=r"digest: payload type .*Opaque"):
            WorkflowSchema("digest", Opaque, Any)
        with pytest.raises(WorkflowInvalid, match=r"digest: result type .*Opaque"):
            WorkflowSchema("digest", Word, Opaque)
