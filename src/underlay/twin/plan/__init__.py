"""How many of which accelerator where? A load and a promise become replicas, megawatts, money and carbon.

In this order: ``question`` (what is asked), ``demand`` (the load), ``places`` (grid, price and distance of
regions), ``offers`` (what could serve it, and what could not), ``steady``, ``sustained`` and ``carriers`` (how much
one replica carries), ``problem``, ``program``, ``search`` and ``diagnosis`` (the exact search, and why nothing
fits), ``figures`` (what the plan comes to), ``bands`` (how sure that is), ``planner`` (all of it), ``scene`` and
``verifying`` (the plan as a scenario, run in the twin).
"""
