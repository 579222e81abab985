"""Underlay: the infrastructure under an AI answer, as one open Python program.

The journey of a prompt, in the order of the rooms it passes:

1. **Arrive.** Bytes reach ``live.gateway``. ``dialects`` finds out whose manner of speaking it is (OpenAI,
   Anthropic, Gemini) and turns the body into a ``domain`` ``Prompt``; nothing later knows which vendor's SDK
   was used until the answer is written.
2. **The desk.** The driver tells ``control.desk`` that the request ``Arrived``, and writes event and effects
   to the journal before it performs them. From here on every decision is pure: events in, effects out.
3. **Identity.** ``control.identity`` finds the one valid key among the credentials, by digest.
4. **Admission.** ``control.admission`` looks at size and limits: in, or refused with a reason and a time.
5. **Routing.** ``control.routing`` picks a replica with a free slot and says why, or the request waits in line.
6. **Engine.** ``live.engines`` asks the replica, a llama.cpp or any OpenAI-compatible server that
   ``live.fleet`` supervises; it prefills the prompt and generates token by token.
7. **Delivery.** ``control.delivery`` knows what the caller has got. Tokens stream back in the caller's own
   dialect; if the replica dies, ``control.recovery`` sends the request on to another, which continues from
   exactly what was delivered; if the caller goes, the slot is freed.
8. **Metering.** ``control.metering`` makes the one charge, from the engine's own counters; ``live.store``
   books it exactly once, after the journal has it.
9. **The journey itself** is kept: every hop with its milliseconds, tokens and reason, for ``underlay journey``
   and the pages of ``console``.

Beside the live driver stands ``twin``: it drives the same desk, today from a recorded journal
(``underlay twin replay``), which must give exactly the same effects again. ``physics`` holds the equations
that the twin and the ledger reckon with. ``cli`` has one verb per file.

``docs/journey.md`` walks the same way with code; a test keeps both true.
"""

__version__ = "0.1.0"
