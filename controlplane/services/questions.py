"""Asking sidecars what only they know: whom they would send a request to."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from controlplane.services.messages import Question
from controlplane.services.sessions import Session, Sessions
from swarmplane import features
from swarmplane.errors import Code, NotFoundError, SwarmError, UnavailableError
from swarmplane.explanation import RouteExplanation
from swarmplane.ids import NodeId

ANSWER_S: Final = 5.0
"""A question ends after this, whoever was asked."""
MOST_ASKED: Final = 3
"""Nodes that are asked one after the other where any will do."""
MOST_OPEN: Final = 256
USUAL_TOKENS: Final = 256


class Questions:
    """Questions that wait for their answers. Bounded; each ends after five seconds."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._ids = itertools.count(1)
        self._open: dict[int, tuple[NodeId, asyncio.Future[RouteExplanation | None]]] = {}

    async def explain(self, node: NodeId | None, model: str, prompt_tokens: int) -> RouteExplanation:
        """Whom ``node`` would ask for ``model``; None: any node that is connected here.

        Of those who may be asked the ones heard last come first; whoever is silent or behind is passed over.

        Raises:
            UnavailableError: It has no stream here, does not know how to answer, or is silent.
            NotFoundError: It does not know the model.
        """
        asked = self._able(node)[:MOST_ASKED]
        unknown = NotFoundError(
            f"no node knows a model {model[:256]!r}; see swarmctl model list", code=Code.MODEL_NOT_FOUND
        )
        problem: SwarmError = unknown
        for session in asked:
            try:
                found = await self._ask(session, model, prompt_tokens, ANSWER_S / len(asked))
            except UnavailableError as error:
                problem = error if session is asked[0] else problem
                continue
            if found is not None:
                return found
            problem = unknown
        raise problem

    async def _ask(
        self, session: Session, model: str, prompt_tokens: int, limit_s: float
    ) -> RouteExplanation | None:
        if len(self._open) >= MOST_OPEN:
            raise UnavailableError("too many questions wait for their answers; try again")
        query = next(self._ids)
        answer: asyncio.Future[RouteExplanation | None] = asyncio.get_running_loop().create_future()
        self._open[query] = session.node, answer
        try:
            session.outbox.ask(Question(query, model, prompt_tokens or USUAL_TOKENS))
            async with asyncio.timeout(limit_s):
                return await answer
        except TimeoutError as error:
            raise UnavailableError(f"{session.name} does not answer; try again") from error
        finally:
            del self._open[query]

    def answered(self, session: Session, query: int, found: RouteExplanation | None) -> None:
        """The node answered; None: it does not know the model. Answers nobody waits for are dropped."""
        node, answer = self._open.get(query, (None, None))
        if answer is not None and node == session.node and not answer.done():
            answer.set_result(found)

    def next(self, session: Session) -> Question | None:
        """What to ask the stream next."""
        questions = session.outbox.questions
        return questions.popleft() if questions and session.outbox.greeted else None

    def _able(self, node: NodeId | None) -> list[Session]:
        able = [one for one in self._sessions.open.values() if features.EXPLAIN in one.features]
        if node is not None:
            able = [one for one in able if one.node == node]
        if not able:
            who = "this node is" if node is not None else "no node is"
            raise UnavailableError(f"{who} connected to this instance; try again or ask another")
        return sorted(able, key=lambda one: self._sessions.silent_s(one.node))
