"""The measured workflow: typed, with next to nothing to do."""

from pydantic import BaseModel

from autopilot import BaseWorkflow, RunContext, WorkflowManifest

PAYLOAD = {"name": "benchmark", "numbers": [1, 2, 3]}


class SumInput(BaseModel):
    name: str
    numbers: list[int]


class SumReport(BaseModel):
    name: str
    total: int


class Sum(BaseWorkflow[SumInput, SumReport]):
    manifest = WorkflowManifest(name="sum")

    async def execute(self, ctx: RunContext, payload: SumInput) -> SumReport:
        return SumReport(name=payload.name, total=sum(payload.numbers))
