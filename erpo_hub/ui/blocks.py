"""Gradio's Blocks, with every fault of a request told to its sender alone, and memory kept in bounds.

Gradio prints a traceback for whatever an event raises, also for an argument of a wrong type.
"""

from __future__ import annotations

from typing import Any, Self

import gradio as gr
from gradio import routes
from gradio.exceptions import InvalidPathError
from gradio.state_holder import StateHolder

from ..errors import UserError
from .budget import LISTENERS, Budget, EventIds, Listeners, SessionMemory, Sessions, Unread, bound_uploads
from .guard import NO_FILE, say_fault
from .models.asking import explain
from .models.streaming import MODEL_ERRORS


class Page(gr.Blocks):
    """The app's Blocks."""

    def __init__(self, budget: Budget, **options: Any):
        """budget: of all sessions together."""
        self.start: str | None = None  # the tab that a link to the app opens
        super().__init__(**options)
        self._memory, self._unread = SessionMemory(budget), Unread(budget)

    @property
    def state_holder(self) -> StateHolder:
        return self._holder

    @state_holder.setter
    def state_holder(self, holder: StateHolder) -> None:
        holder.__class__ = Sessions  # Gradio makes it, and lets nobody else
        self._holder = holder

    def queue(self, *args: Any, **options: Any) -> Self:
        """As Gradio's, with tables that end: `Listeners`, `EventIds` and those of uploads."""
        super().queue(*args, **options)
        self._queue.pending_messages_per_session = listeners = Listeners(LISTENERS)
        self._queue.pending_event_ids_session = EventIds(listeners)
        bound_uploads(routes.file_upload_statuses)
        return self

    async def process_api(
        self, block_fn: Any, inputs: list[Any], *args: Any, **options: Any
    ) -> dict[str, Any]:
        """One event, or one step of a stream. Raises gr.Error, which Gradio hands to the caller."""
        try:
            return await super().process_api(block_fn, inputs, *args, **options)
        except gr.Error as error:
            error.print_exception = False
            raise
        except InvalidPathError:  # its own text names the folder that the app runs in
            raise gr.Error(NO_FILE, print_exception=False) from None
        except (UserError, *MODEL_ERRORS) as error:
            raise gr.Error(explain(error), print_exception=False) from None
        except Exception as error:  # noqa: BLE001 whatever a visitor's arguments bring about
            say_fault(error)
            text = f"The request can't be worked with ({type(error).__name__}): check its arguments' types."
            raise gr.Error(text, print_exception=False) from None
        finally:
            self._memory.keep(self.state_holder, options.get("session_hash"))
            self._unread.drop(self._queue)
