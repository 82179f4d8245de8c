"""Asking sidecars what only they know: whom they would send a request to."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from controlplane.services.messages import Question
from controlplane.services.sessions import Session, Sessions
from swarmplane import features
from swarmplane.errors import Code, NotFoundError, UnavailableError
from swarmplane.explanation import RouteExplanation
from swarmplane.ids import NodeId

ANSWER_S: Final = 5.0
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

        Raises:
            UnavailableError: It has no stream here, does not know how to answer, or is silent.
            NotFoundError: It does not know the model.
        """
        session = self._session(node)
        if len(self._open) >= MOST_OPEN:
            raise UnavailableError("too many questions wait for their answers; try again")
        query = next(self._ids)
        answer: asyncio.Future[RouteExplanation | None] = asyncio.get_running_loop().create_future()
        self._open[query] = session.node, answer
        try:
            session.outbox.ask(Question(query, model, prompt_tokens or USUAL_TOKENS))
            async with asyncio.timeout(ANSWER_S):
                found = await answer
        except TimeoutError as error:
            raise UnavailableError(f"{session.name} does not answer; try again") from error
        finally:
            del self._open[query]
        if found is None:
            raise NotFoundError(
                f"no node knows a model {model[:256]!r}; see swarmctl model list", code=Code.MODEL_NOT_FOUND
            )
        return found

    def answered(self, session: Session, query: int, found: RouteExplanation | None) -> None:
        """The node answered; None: it does not know the model. Answers nobody waits for are dropped."""
        node, answer = self._open.get(query, (None, None))
        if answer is not None and node == session.node and not answer.done():
            answer.set_result(found)

    def next(self, session: Session) -> Question | None:
        """What to ask the stream next."""
        questions = session.outbox.questions
        return questions.popleft() if questions and session.outbox.greeted else None

    def _session(self, node: NodeId | None) -> Session:
        able = [one for one in self._sessions.open.values() if features.EXPLAIN in one.features]
        if node is not None:
            able = [one for one in able if one.node == node]
        if not able:
            who = "this node is" if node is not None else "no node is"
            raise UnavailableError(f"{who} connected to this instance; try again or ask another")
        return min(able, key=lambda one: one.node)
