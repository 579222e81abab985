"""Underlay: the infrastructure under an AI answer, as one open Python program.

The journey of a prompt, in the order of the rooms it passes:

1. **Arrive.** Bytes reach ``live.gateway``. ``dialects`` finds out whose manner of speaking it is (OpenAI,
   Anthropic, Gemini) and turns the body into a ``domain`` ``Prompt``; nothing later knows which vendor's SDK
   was used until the answer is written. Keyed digests tell which prompts begin alike, and not a word of them.
2. **The desk.** The driver tells ``control.desk`` that the request ``Arrived``, and writes event and effects
   to the journal before it performs them. From here on every decision is pure: events in, effects out.
3. **Identity.** ``control.identity`` finds the one valid key among the credentials, by digest.
4. **Admission.** ``control.admission`` looks at the size; then key, user, tenant and model are asked for what the
   request may cost, which is reserved: in, or refused with a reason and a time.
5. **In line.** If nobody can take it now it waits here, not in an engine: bands of urgency first, then the
   tenant that has received least. Where it goes is decided as late as possible.
6. **Routing.** ``control.routing`` picks a replica and says why: where the beginning is cached, until another
   would answer much sooner. A lease is taken at that moment and given back exactly once.
7. **Engine.** ``live.engines`` asks the replica, a llama.cpp or any OpenAI-compatible server that
   ``live.fleet`` supervises; it prefills the prompt and generates token by token. From the first token the
   desk learns how fast the replica is and what it had in its cache.
8. **Delivery.** ``control.delivery`` knows what the caller has got. Tokens stream back in the caller's own
   dialect; if the replica dies or falls silent, ``control.recovery`` sends the request on to another, which
   continues from exactly what was delivered; if the caller goes, the slot is freed.
9. **Metering.** ``control.metering`` makes the one charge, from the engine's own counters; what was reserved
   beyond it is given back; ``live.store`` books it exactly once, after the journal has it. What ``live.meters``
   count ``ledger`` shares out beside the requests: whose joules they were, to the last one.
10. **The journey itself** is kept: every hop with its milliseconds, tokens and reason, for ``underlay journey``
    and the pages of ``console``.

Beside the live driver stands ``twin``: it drives the same desk, today from a recorded journal
(``underlay twin replay``), which must give exactly the same effects again. ``physics`` holds the equations
that the twin and the ledger reckon with. ``documents`` reads what people write, settings and scenarios, and shows
every mistake where it stands. ``cli`` has one verb per file.

``docs/journey.md`` walks the same way with code; a test keeps both true.
"""

__version__ = "0.1.0"
