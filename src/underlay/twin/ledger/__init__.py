"""The ledger of a run: what each request took, and where every joule of every site went.

The accounts are those of the live ledger (``underlay.ledger``). The files in the order that joules pass them:
``weights`` (what a step weighs, for ``engine.shares``), ``taken`` (attempts to rows), ``hours`` (what sites drew
hour by hour), ``requests`` (each row's joules, grams, millilitres and money), ``statements`` (sums by tenant,
model, region and band) and ``closing`` (racks, halls and sites up to the feeder, and the checks).
"""
