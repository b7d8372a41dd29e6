"""Runs the stages in order, times them and records their events; the only caller of the engine and of tools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from conversations.pipeline import csv_blocks
from conversations.pipeline.answer import Answer
from conversations.pipeline.earlier import Calls
from conversations.pipeline.engine import (
    TOOL_INTENTS,
    Classification,
    Ending,
    Engine,
    Executed,
    KnownTable,
    Request,
    Selection,
    TablePiece,
    TextPiece,
    ToolCall,
)
from conversations.pipeline.events import (
    REUSED,
    STAGES,
    Cancelled,
    Complete,
    ExportStored,
    Failed,
    StageComplete,
    StageLetter,
    StageStart,
)
from conversations.pipeline.job import ExportSink, Job, StoredExport
from conversations.pipeline.stage import Journal, Json, Stage, StageFailed
from conversations.pipeline.tools import (
    Cell,
    Column,
    CountResult,
    InThread,
    Progress,
    Registry,
    TableResult,
    Tool,
    ToolContext,
    ToolError,
)

logger = logging.getLogger(__name__)


class Orchestrator:
    """One run's pass through the stages A, B, C, E, D. Make one per run, call `run` once."""

    def __init__(
        self,
        *,
        job: Job,
        engine: Engine,
        registry: Registry,
        journal: Journal,
        exports: ExportSink,
        in_thread: InThread,
        tool_thread: InThread,
        now: Callable[[], datetime],
    ) -> None:
        self.job = job
        self.engine = engine
        self.registry = registry
        self.journal = journal
        self.exports = exports
        self.in_thread = in_thread
        self.tool_thread = tool_thread
        self.now = now
        self.answer = Answer(journal)
        self.durations: dict[StageLetter, float] = {}
        self.skipped: set[StageLetter] = set()
        self.is_ended = False
        #: Stages are reused up to the first that has to be done.
        self._is_reusing = True

    async def run(self) -> None:
        """Ends with exactly one terminal event, recorded and flushed, whatever the engine or a tool raises.

        Raises only what the journal raises, and CancelledError.
        """
        try:
            response = await self._stages()
        except StageFailed as failure:
            logger.error("Run %s failed in stage %s", self.job.run_id, failure.stage, exc_info=failure.__cause__)
            self._fail(failure)
        else:
            self._complete(response)
        await self.journal.flush()

    def cancel(self, *, asked_at: datetime) -> None:
        """Ends the run as stopped, unless it has ended. For when `run` has been cancelled; the caller flushes."""
        if self.is_ended:
            return
        ran = [letter for letter in self.durations if letter not in self.skipped]
        # The one it stopped in goes first: what was skipped may stand before it in their order.
        rest = sorted((letter for letter in STAGES if letter not in ran), key=lambda letter: letter in self.skipped)
        self._end(
            Cancelled(
                message=self.answer.text,
                total_duration_ms=self._ms_since(self.job.created_at),
                stop_ms=self._ms_since(asked_at),
                ran=ran,
                not_run=rest,
            )
        )

    async def _stages(self) -> Json:
        request, classification = await self._classify()
        selection = await self._select(request, classification)
        calls = await self._plan(request, classification, selection)
        executed = await self._execute(calls)
        return await self._respond(request, classification, executed)

    async def _classify(self) -> tuple[Request, Classification]:
        if output := self._reused("A"):
            return await self._request(), Classification.from_dict(output)
        async with self._stage("A", {"request": self.job.text, "context": dict(self.job.context)}) as stage:
            request = await self._request()
            found = await self.engine.classify(request)
            stage.output = found.to_dict()
        return request, found

    async def _request(self) -> Request:
        return Request(
            text=self.job.text,
            now=self.now(),
            tables=await self.in_thread(self._known_tables),
            in_thread=self.in_thread,
            context=self.job.context,
            tools=self.registry.spoken,
        )

    def _known_tables(self) -> tuple[KnownTable, ...]:
        return tuple(
            KnownTable(spec=table.spec, vocabulary=table.vocabulary(), find=table.find)
            for table in self.registry.tables
        )

    async def _select(self, request: Request, classification: Classification) -> Selection:
        if classification.intent not in TOOL_INTENTS:
            self._skip("B", "no tool is needed")
            return Selection()
        if output := self._reused("B"):
            calls = tuple(ToolCall.from_dict(call) for call in output["calls"])
            return Selection(calls=calls, needs_plan=output["needs_plan"])
        async with self._stage("B", {"intent": classification.intent}) as stage:
            selection = await self.engine.select(request, classification)
            stage.output = {"calls": _calls(selection.calls), "needs_plan": selection.needs_plan}
        return selection

    async def _plan(
        self, request: Request, classification: Classification, selection: Selection
    ) -> tuple[ToolCall, ...]:
        if not selection.needs_plan:
            self._skip("C", "one step is enough" if selection.calls else "nothing to plan")
            return selection.calls
        if output := self._reused("C"):
            return tuple(ToolCall.from_dict(call) for call in output["calls"])
        async with self._stage("C", {"calls": _calls(selection.calls)}) as stage:
            plan = await self.engine.plan(request, classification, selection)
            stage.output = {"calls": _calls(plan.calls)}
        return plan.calls

    async def _execute(self, calls: Sequence[ToolCall]) -> list[Executed]:
        if not calls:
            self._skip("E", "nothing to run")
            return []
        if output := self._reused("E"):
            return [Executed.from_stored(result) for result in output["results"]]
        tools = ", ".join(dict.fromkeys(call.tool for call in calls))
        work = Calls(calls, self.job.earlier.records.get("E"))
        async with self._stage("E", {"calls": _calls(calls)}, tool=tools) as stage:
            for call in work.left:
                await self._call(call, stage, work)
        return work.executed

    async def _call(self, call: ToolCall, stage: Stage, work: Calls) -> None:
        done, of = len(work.executed), len(work.calls)

        def progress(percent: float, message: str) -> None:
            stage.progress((done * 100 + percent) / of, message)

        tool = self.registry.tool(call.tool)
        self._note(stage, work.begin(tool))
        if not tool.idempotent:
            # Known to be begun before it begins, whatever happens to this process.
            await self.journal.flush()
        executed = await self._result(tool, call, stage, work, _threadsafe(progress))
        self._note(stage, work.end(executed))
        if not tool.idempotent:
            await self.journal.flush()

    def _note(self, stage: Stage, output: Json) -> None:
        stage.output = output
        self.journal.note(stage.letter, output)

    async def _result(self, tool: Tool, call: ToolCall, stage: Stage, work: Calls, progress: Progress) -> Executed:
        context = ToolContext(user_id=self.job.user_id, now=self.now(), progress=progress, in_thread=self.tool_thread)
        try:
            result = await tool.run(call.arguments, context)
        except ToolError:
            # It says itself that it didn't do its work.
            stage.output = work.output
            raise
        if isinstance(result, TableResult):
            return await self._store(call, result, progress)
        if isinstance(result, CountResult):
            return Executed(
                tool=call.tool, arguments=call.arguments, kind="count", total=result.total, matched=result.total
            )
        return Executed(
            tool=call.tool, arguments=call.arguments, kind="check", total=0, matched=0, refusal=result.message
        )

    async def _store(self, call: ToolCall, result: TableResult, progress: Progress) -> Executed:
        stored = await self.exports.store(
            result, source="tool", tool=call.tool, query=dict(call.arguments), title="", progress=progress
        )
        self._exported(stored, result.columns)
        columns, rows = _preview(result, stored)
        return Executed(
            tool=call.tool,
            arguments=call.arguments,
            kind=result.kind,
            total=stored.n_rows,
            matched=max(result.matched, stored.n_rows),
            columns=columns,
            rows=rows,
            export_id=stored.export_id,
        )

    async def _respond(self, request: Request, classification: Classification, executed: list[Executed]) -> Json:
        if output := self._reused("D"):
            self.answer.take(output["message"], output["blocks"])
            response: Json = output["response"]
            return response
        async with self._stage("D", {"results": [e.to_dict() for e in executed]}) as stage:
            ending = None
            async for piece in self.engine.respond(request, classification, executed):
                if isinstance(piece, TextPiece):
                    self.answer.write(piece.text)
                elif isinstance(piece, TablePiece):
                    self.answer.write_table(executed[piece.index])
                else:
                    ending = piece
                # Lets the journal and other runs go on between pieces.
                await asyncio.sleep(0)
            if ending is None or not self.answer.text:
                raise StageFailed("D", "no_answer", "The engine gave no answer.")
            await self._store_csv_blocks(stage)
            response = _response(classification, executed, ending)
            stage.output = {"message": self.answer.text, "blocks": self.answer.blocks, "response": response}
        return response

    async def _store_csv_blocks(self, stage: Stage) -> None:
        """A fenced csv block is rows that the answer typed: stored as an export that says so."""
        for block in csv_blocks.find(self.answer.text):
            columns = tuple(Column(name=name, type="text") for name in block.header)
            read = partial(iter, block.rows)
            result = TableResult(kind="rows", columns=columns, open_rows=read, matched=len(block.rows))
            stored = await self.exports.store(
                result, source="text", tool="", query={}, title="", progress=_threadsafe(stage.progress)
            )
            self._exported(stored, columns)
            self.answer.add_block(block.start, block.end, stored.export_id)

    def _exported(self, stored: StoredExport, columns: Sequence[Column]) -> None:
        self.journal.record(
            ExportStored(
                export_id=stored.export_id,
                filename=stored.filename,
                rows=stored.n_rows,
                columns=[c.name for c in columns],
                downloads=stored.downloads,
            )
        )

    def _stage(self, letter: StageLetter, stage_input: Json, *, tool: str = "") -> Stage:
        return Stage(
            letter,
            journal=self.journal,
            stage_input=stage_input,
            attempt=self.job.earlier.next_attempt(letter),
            expected_ms=self.job.expected_ms.get(letter),
            durations=self.durations,
            tool=tool,
        )

    def _reused(self, letter: StageLetter) -> Json | None:
        """The output that an earlier attempt has stored for the stage, while all before it had one too."""
        output = self.job.earlier.output_of(letter) if self._is_reusing else None
        if output is None:
            self._is_reusing = False
            return None
        record = self.job.earlier.records[letter]
        self.durations[letter] = record.duration_ms
        if not record.is_own:
            self._tell_reused(letter, output)
        return output

    def _tell_reused(self, letter: StageLetter, output: Json) -> None:
        """Each stage appears in each run: this one takes no time, since another run has done it."""
        name, message = STAGES[letter], f"{REUSED} from the run that this one goes on with"
        self.durations[letter] = 0
        self.journal.record(StageStart(stage=letter, name=name, message=message, attempt=1))
        ended = StageComplete(stage=letter, name=name, status="completed", duration_ms=0, message=message)
        self.journal.record(ended, stage_output=output)

    def _skip(self, letter: StageLetter, why: str) -> None:
        self.durations[letter] = 0
        self.skipped.add(letter)
        if not self.job.earlier.was_skipped(letter):
            self.journal.record(
                StageComplete(stage=letter, name=STAGES[letter], status="skipped", duration_ms=0, message=why)
            )

    def _ms_since(self, then: datetime) -> float:
        return max(0.0, round((self.now() - then).total_seconds() * 1000, 1))

    def _end(self, event: Complete | Failed | Cancelled) -> None:
        self.is_ended = True
        self.journal.record(event)

    def _complete(self, response: Json) -> None:
        self._end(
            Complete(
                total_duration_ms=self._ms_since(self.job.created_at),
                message=self.answer.text,
                response=response,
                stage_durations=self.durations,
            )
        )

    def _fail(self, failure: StageFailed) -> None:
        self._end(
            Failed(
                error={"code": failure.code, "message": failure.message},
                stage=failure.stage,
                message=self.answer.text,
                total_duration_ms=self._ms_since(self.job.created_at),
            )
        )


def _threadsafe(progress: Progress) -> Progress:
    """The same progress, callable from any thread."""
    loop = asyncio.get_running_loop()

    def call(percent: float, message: str) -> None:
        loop.call_soon_threadsafe(progress, percent, message)

    return call


def _calls(calls: Sequence[ToolCall]) -> list[Json]:
    return [call.to_dict() for call in calls]


def _preview(result: TableResult, stored: StoredExport) -> tuple[tuple[Column, ...], tuple[tuple[Cell, ...], ...]]:
    """The columns and rows that the answer shows."""
    names = result.preview_columns or tuple(c.name for c in result.columns)
    indexes = [i for name in names for i, column in enumerate(result.columns) if column.name == name]
    columns = tuple(result.columns[i] for i in indexes)
    return columns, tuple(tuple(row[i] for i in indexes) for row in stored.preview)


def _response(classification: Classification, executed: Sequence[Executed], ending: Ending) -> Json:
    """The contract's `response` object."""
    return {
        "response_type": ending.response_type,
        "intent": classification.intent,
        "understood": classification.understood.to_dict(),
        "unused_words": list(classification.unused_words),
        "results": [e.to_dict() for e in executed],
        "clarification": dict(ending.clarification) if ending.clarification else None,
    }
